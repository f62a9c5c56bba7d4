"""`penult review`: the images and labels that a person should look at."""

import shlex
from pathlib import Path

import click

from penult.pipeline.cli.options import (
    dataset_argument,
    dataset_of,
    features_option,
    json_option,
    of_backbone_option,
    store_option,
    target_option,
    task_option,
)
from penult.pipeline.cli.output import one_line, print_json, print_table, progress
from penult.pipeline.reviewing.review import REASONS, Reviewed, ReviewOptions
from penult.pipeline.reviewing.review import review as run_review
from penult.store import open_store

MEANINGS = {
    "label": "labels that held-out predictions speak against; score: the probability of the suggested class",
    "leak": "nearly the same picture in several splits; score: the lowest cosine in its group",
    "near-duplicate": "nearly the same picture; score: the lowest cosine in its group",
    "outlier": "like no other image; score: the mean cosine to its nearest",
    "label next": "whose label would teach most; score: the margin between its two likeliest classes",
}


@click.command()
@dataset_argument
@store_option
@features_option(run_review)
@of_backbone_option
@target_option("The column of the classes.")
@task_option("; only classes are reviewed.")
@click.option("--head", default=ReviewOptions.head, show_default=True, help="The kind of head that judges the labels.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=ReviewOptions.threshold,
    show_default=True,
    help="From which cosine of their features, less the mean, two images count as nearly the same.",
)
@click.option(
    "--next",
    "next_images",
    type=click.IntRange(0),
    default=ReviewOptions.next_images,
    show_default=True,
    help="How many images to propose for labelling.",
)
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the whole dataset, the doubtful first, to be corrected and given to 'penult dataset import'.",
)
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="Show so many of each.")
@json_option
def review(
    dataset: str | None,
    store: Path,
    features: str,
    backbone: str | None,
    table: Path | None,
    limit: int,
    as_json: bool,
    **values: str,
) -> None:
    """List what in a dataset to look at: doubtful labels, near copies and leaks, outliers, and what to label next.

    None of it is certainly wrong: look, correct the labels in the table that --csv writes, and bring it back with
    'penult dataset import TABLE --name DATASET'. Nothing is changed before that.
    """
    opened = open_store(store, create=False)
    found = run_review(
        opened,
        dataset=dataset_of(opened, dataset),
        features=features,
        backbone=backbone,
        options=ReviewOptions(**values),  # type: ignore[arg-type]  # click gives each its type
        progress=progress(),
    )
    if table is not None:
        found.write(table)
    if as_json:
        print_json(found.to_json())
        return
    _show(found, limit)
    if table is not None:
        command = shlex.join(["penult", "dataset", "import", str(table), "--name", found.dataset.name])
        click.echo(
            f"table: {table}\nnext:  correct its column {found.target!r}, then {command} --store {opened.short_address}"
        )


def _show(found: Reviewed, limit: int) -> None:
    for note in found.notes:
        click.echo(note)
    for reason in REASONS:
        listed = found.of(reason)
        if not listed:
            continue
        click.echo(f"\n{reason}: {len(listed):,} images ({MEANINGS[reason]})")
        rows = [
            (
                one_line(one.path),
                one.label,
                one.split,
                one.suggested,
                "" if one.group is None else str(one.group),
                one.score,
            )
            for one in listed[:limit]
        ]
        print_table(("image", "label", "split", "suggested", "group", "score"), rows)
    if not found.found:
        click.echo("nothing stands out")
