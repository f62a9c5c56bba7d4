"""`penult review`: the images and labels that a person should check."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

import penult
from penult.pipeline.cli.options import (
    backbone_filter_option,
    dataset_argument,
    dataset_or_only,
    features_option,
    json_option,
    store_option,
    target_option,
    task_option,
)
from penult.pipeline.cli.output import one_line, print_json, print_table, progress
from penult.pipeline.reviewing.options import REASONS, ReviewOptions

if TYPE_CHECKING:
    from penult.pipeline.reviewing.review import Reviewed


@click.command()
@dataset_argument
@store_option
@features_option
@backbone_filter_option
@target_option("Column with the classes.")
@task_option("; only classification is supported.")
@click.option("--head", default=ReviewOptions.head, show_default=True, help="Kind of head that checks the labels.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=ReviewOptions.threshold,
    show_default=True,
    help="Cosine similarity of centred features from which two images count as near duplicates.",
)
@click.option(
    "--next",
    "next_images",
    type=click.IntRange(0),
    default=ReviewOptions.next_images,
    show_default=True,
    help="Number of unlabelled images to suggest for labelling.",
)
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the whole dataset to this file, doubtful images first. Correct it, then run 'penult dataset import'.",
)
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="Rows to show for each reason.")
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
    """List doubtful labels, duplicates, leaks and outliers.

    Also suggests unlabelled images to label next. These are suggestions: check the images, correct the labels in the
    table that --csv writes, and import it with 'penult dataset import TABLE --name DATASET'. This verb itself changes
    nothing.
    """
    opened = penult.open_store(store, create=False)
    found = penult.review(
        opened,
        dataset=dataset_or_only(opened, dataset),
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


def _show(found: "Reviewed", limit: int) -> None:
    for note in found.notes:
        click.echo(note)
    for reason, meaning in REASONS.items():
        listed = found.of(reason)
        if not listed:
            continue
        click.echo(f"\n{reason}: {len(listed):,} images ({meaning})")
        rows = [
            (
                one_line(image.path),
                image.label,
                image.split,
                image.suggested,
                "" if image.group is None else str(image.group),
                image.score,
            )
            for image in listed[:limit]
        ]
        print_table(("image", "label", "split", "suggested", "group", "score"), rows)
    if not found.found:
        click.echo("nothing to review")
