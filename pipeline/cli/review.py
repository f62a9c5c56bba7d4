"""`penult review`: the images and labels that a person should look at."""

from pathlib import Path

import click

from penult.pipeline.cli.options import default_of, json_option, store_option
from penult.pipeline.cli.output import one_line, print_json, print_table, progress
from penult.pipeline.cli.train import _only_dataset
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
@click.argument("dataset", required=False)
@store_option
@click.option(
    "--features", default=default_of(run_review, "features"), show_default=True, help="Taps, or backbone:tap."
)
@click.option("--backbone", default=None, help="Whose features, where the store has those of several.")
@click.option("--target", default=ReviewOptions.target, show_default=True, help="The column of the classes.")
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

    None of it is certainly wrong: look, correct the column 'label' of the table that --csv writes, and bring it back
    with 'penult dataset import TABLE --name DATASET'. Nothing is changed before that.
    """
    opened = open_store(store, create=False)
    found = run_review(
        opened,
        dataset=dataset or _only_dataset(opened),
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
        click.echo(
            f"table: {table}\nnext:  correct its column 'label', then "
            f"penult dataset import {table} --name {found.dataset.name} --store {store}"
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
