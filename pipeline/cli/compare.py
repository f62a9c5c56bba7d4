"""`penult compare`: features and heads beside each other on the same held-out images."""

import csv
import sys
from pathlib import Path
from typing import Any

import click

from penult.pipeline.cli.options import (
    dataset_argument,
    dataset_of,
    default_of,
    json_option,
    store_option,
    target_option,
    task_option,
)
from penult.pipeline.cli.output import print_json, progress
from penult.pipeline.comparing.compare import Compared, CompareOptions
from penult.pipeline.comparing.compare import compare as run_compare
from penult.pipeline.evaluation.measures import NAMES, format_measure
from penult.store import open_store


@click.command()
@dataset_argument
@store_option
@click.option(
    "--features",
    multiple=True,
    metavar="TAPS",
    help="Features to try, as 'penult train' takes them; again for others.  [default: all taps, alone and together]",
)
@click.option(
    "--heads",
    default=",".join(default_of(run_compare, "heads")),
    show_default=True,
    help="The kinds of heads to try, separated by commas.",
)
@target_option("The column of the classes.")
@task_option("; only classes are compared.")
@click.option("--folds", type=click.IntRange(2), default=CompareOptions.n_folds, show_default=True, help="Parts.")
@click.option("--class-weight", type=click.Choice(["balanced"]), help="Give rare classes the weight of frequent ones.")
@click.option(
    "--by",
    type=click.Choice([name.replace("_", "-") for name in NAMES]),
    help="The figure that ranks the tries.  [default: accuracy, with balanced class weights balanced-accuracy]",
)
@click.option("--csv", "table", type=click.Path(path_type=Path, dir_okay=False), help="Write the table as CSV, too.")
@json_option
def compare(
    dataset: str | None, store: Path, features: tuple[str, ...], heads: str, table: Path | None, **values: Any
) -> None:
    """Try features and heads on the training images of a dataset, and tell which differences are more than chance.

    Each training image is held out once; the test split is not touched, so that it can judge what you choose. What was
    computed is kept in the store: the same command again, or after an interruption, only computes what is new.
    """
    opened = open_store(store, create=False)
    found = run_compare(
        opened,
        dataset=dataset_of(opened, dataset),
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


def _write(path: Path, found: Compared) -> None:
    rows = [one.to_json() for one in found.tries]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _show(found: Compared) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    for note in found.notes:
        click.echo(note)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("features", "head"):
        table.add_column(name, overflow="fold")
    is_accuracy = found.measure == "accuracy"
    figure = "right" if is_accuracy else NAMES[found.measure]
    beside = "log-loss" if is_accuracy else "right"
    for name in (figure, "95 % interval", beside, "fit s", "extract ms", "behind the best"):
        table.add_column(name, justify="right")
    for one in found.tries:
        value, low, high = (format_measure(bound, found.measure) for bound in vars(one.figure).values())
        table.add_row(
            one.features,
            one.head,
            value,
            f"{low} to {high}",
            f"{one.evaluation.log_loss:.3f}" if is_accuracy else f"{one.evaluation.accuracy.value:.1%}",
            f"{one.fit_seconds:.2f}",
            "-" if one.extraction_ms is None else f"{one.extraction_ms:.1f}",
            "" if one is found.best else ("yes" if one.is_worse else "not told apart"),
            style="bold" if one is found.best and found.has_winner else None,
        )
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False)
    with console.capture() as drawn:
        console.print(table)
    click.echo(drawn.get(), nl=False)
    click.echo(found.sentence)
