"""`penult compare`: features and heads compared on the same held-out images."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import penult
from penult.defaults import MEASURES, QUICK_HEADS
from penult.pipeline.cli.options import (
    dataset_argument,
    dataset_or_only,
    json_option,
    store_option,
    target_option,
    task_option,
)
from penult.pipeline.cli.output import print_json, print_table, progress
from penult.pipeline.comparing.options import CompareOptions

if TYPE_CHECKING:
    from penult.pipeline.comparing.compare import Compared


@click.command()
@dataset_argument
@store_option
@click.option(
    "--features",
    multiple=True,
    metavar="TAPS",
    help="Features to try, as for 'penult train'; repeat the option for more.  [default: all taps, alone and combined]",
)
@click.option(
    "--heads",
    default=",".join(QUICK_HEADS),
    show_default=True,
    help="Kinds of heads to try, separated by commas.",
)
@target_option("Column with the classes.")
@task_option("; only classification is supported.")
@click.option(
    "--folds",
    type=click.IntRange(2),
    default=CompareOptions.n_folds,
    show_default=True,
    help="Number of cross-validation folds of the training images.",
)
@click.option(
    "--class-weight",
    type=click.Choice(["balanced"]),
    help="Weight classes so that rare ones count as much as frequent ones.",
)
@click.option(
    "--by",
    type=click.Choice([name.replace("_", "-") for name in MEASURES]),
    help="Metric to rank by.  [default: accuracy; balanced-accuracy with balanced class weights]",
)
@click.option("--csv", "table", type=click.Path(path_type=Path, dir_okay=False), help="Also write the table as CSV.")
@json_option
def compare(
    dataset: str | None, store: Path, features: tuple[str, ...], heads: str, table: Path | None, **values: Any
) -> None:
    """Compare features and heads by cross-validation.

    Each training image is held out once. The test split is not used, so it can still judge your choice. Results are
    cached in the store: a second run computes only what is new.
    """
    opened = penult.open_store(store, create=False)
    found = penult.compare(
        opened,
        dataset=dataset_or_only(opened, dataset),
        features=features or None,
        heads=[head.strip() for head in heads.split(",") if head.strip()],
        options=CompareOptions(
            target=values["target"],
            task=values["task"],
            n_folds=values["folds"],
            class_weight=values["class_weight"],
            by=values["by"] and values["by"].replace("-", "_"),
        ),
        progress=progress(),
    )
    if table is not None:
        _write(table, found)
    print_json(found.to_json()) if values["as_json"] else _show(found)


def _write(path: Path, found: "Compared") -> None:
    rows = [result.to_json() for result in found.tries]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _show(found: "Compared") -> None:
    from penult.pipeline.evaluation.measures import format_measure

    for note in found.notes:
        click.echo(note)
    is_accuracy = found.measure == "accuracy"
    right = (MEASURES[found.measure], "95 % interval", "log-loss" if is_accuracy else "accuracy", "fit s", "extract ms")
    columns = ("features", "head", *right, "against the best")
    rows = []
    for one in found.tries:
        value, low, high = (format_measure(bound, found.measure) for bound in vars(one.figure).values())
        rows.append(
            (
                one.features,
                one.head,
                value,
                f"{low} to {high}",
                f"{one.evaluation.log_loss:.3f}" if is_accuracy else f"{one.evaluation.accuracy.value:.1%}",
                f"{one.fit_seconds:.2f}",
                "-" if one.extraction_ms is None else f"{one.extraction_ms:.1f}",
                found.verdict_on(one),
            )
        )
    print_table(columns, rows, right=right, bold=0 if found.has_winner else None)
    click.echo(found.sentence)
