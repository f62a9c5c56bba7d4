"""`penult dataset`: labels and splits, which live apart from the features and change without them."""

from collections import Counter
from pathlib import Path

import click

from penult.pipeline.cli.options import json_option, store_option
from penult.pipeline.cli.output import print_json, print_table
from penult.pipeline.samples.relabelling import SplitRule, import_labels, split_dataset
from penult.store import open_store
from penult.store.catalog.datasets import Dataset
from penult.store.tables.formats import write_table
from penult.store.tables.leaks import find_contradictions, find_leaks

version_option = click.option("--version", type=click.IntRange(1), help="Which version.  [default: the newest]")


@click.group()
def dataset() -> None:
    """Look into datasets, and bring labels in and out."""


@dataset.command(name="list")
@store_option
@json_option
def list_(store: Path, as_json: bool) -> None:
    """List the datasets of a store."""
    datasets = open_store(store, create=False).catalog.datasets
    newest = [(name, datasets.versions(name)[-1]) for name in datasets.names()]
    if as_json:
        print_json({name: {"version": last.version, "rows": last.rows} for name, last in newest})
        return
    rows = [(name, last.version, last.rows, ", ".join(last.columns), last.created) for name, last in newest]
    print_table(("dataset", "version", "rows", "columns", "created"), rows)


@dataset.command()
@click.argument("name")
@version_option
@store_option
@json_option
def show(name: str, version: int | None, store: Path, as_json: bool) -> None:
    """Show what a dataset holds: classes by split, and images that stand in two splits or under two labels."""
    table = open_store(store, create=False).catalog.datasets.load(name, version)
    counts = _counts(table)
    leaks = [] if table.splits is None else find_leaks(table.keys, table.splits)
    contradictions = [] if table.labels is None else find_contradictions(table.keys, table.labels)
    if as_json:
        print_json(
            {
                "dataset": name,
                "version": table.version,
                "rows": len(table),
                "columns": list(table.columns),
                "counts": [{"label": label, "split": split, "rows": rows} for (label, split), rows in counts.items()],
                "leaks": [[table.paths[row] for row in leak.rows] for leak in leaks],
                "contradictions": [[table.paths[row] for row in each.rows] for each in contradictions],
            }
        )
        return
    click.echo(f"{name}, version {table.version} of {table.created}: {len(table):,} rows; {', '.join(table.columns)}")
    splits = sorted({split for _, split in counts})
    labels = sorted({label for label, _ in counts})
    print_table(("label", *splits), [(label, *(counts.get((label, split), 0) for split in splits)) for label in labels])
    for what, conflicts in (("stand in several splits", leaks), ("have several labels", contradictions)):
        if conflicts:
            click.echo(f"{len(conflicts):,} images {what}:")
        for conflict in conflicts[:10]:
            click.echo("  " + " = ".join(table.paths[row] for row in conflict.rows))


def _counts(table: Dataset) -> Counter[tuple[str, str]]:
    absent = ["-"] * len(table)
    labels = absent if table.labels is None else [str(label) for label in table.labels]
    splits = absent if table.splits is None else [str(split) for split in table.splits]
    return Counter(zip(labels, splits, strict=True))


@dataset.command(name="import")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--name", help="The dataset's name.  [default: the table's]")
@click.option("--base", type=click.Path(path_type=Path), help="The folder of the paths.  [default: the table's own]")
@store_option
@json_option
def import_(table: Path, name: str | None, base: Path | None, store: Path, as_json: bool) -> None:
    """Make a CSV or Parquet table the newest version of a dataset: path or key, label, split, and what else it has."""
    done = import_labels(open_store(store, create=False), table, name=name or table.stem, base=base)
    _tell(done.dataset, done.notes, as_json)


@dataset.command(name="export")
@click.argument("name")
@click.argument("table", type=click.Path(path_type=Path))
@version_option
@store_option
def export(name: str, table: Path, version: int | None, store: Path) -> None:
    """Write a dataset as CSV or Parquet, by the end of the file's name."""
    write_table(table, open_store(store, create=False).catalog.datasets.load(name, version))
    click.echo(f"{table}")


@dataset.command()
@click.argument("name")
@click.option("--test", type=click.FloatRange(0, 1), default=SplitRule.test, show_default=True, help="Its share.")
@click.option("--val", type=click.FloatRange(0, 1), default=SplitRule.val, show_default=True, help="Its share.")
@click.option("--group", help="A column: all rows of one of its values stay on one side.")
@click.option("--column", help="A column of times: what lies before --cut is for training.")
@click.option("--cut", help="The time to cut at.")
@click.option("--salt", default=SplitRule.salt, show_default=True, help="Another word gives another split.")
@store_option
@json_option
def split(name: str, store: Path, as_json: bool, **rule: float | str | None) -> None:
    """Split a dataset anew, by the images' keys, by groups or by time."""
    _tell(split_dataset(open_store(store, create=False), name, SplitRule(**rule)), (), as_json)  # type: ignore[arg-type]  # click gives each its type


@dataset.command()
@click.argument("name")
@click.argument("old", type=click.IntRange(1))
@click.argument("new", type=click.IntRange(1))
@store_option
@json_option
def diff(name: str, old: int, new: int, store: Path, as_json: bool) -> None:
    """Tell what changed from one version of a dataset to another."""
    found = open_store(store, create=False).catalog.datasets.diff(name, old, new)
    if as_json:
        print_json(found.summary())
        return
    for what, count in found.summary().items():
        named = [f"{count[name]:,} of {name}" for name in count] if isinstance(count, dict) else count
        told = ", ".join(named) if isinstance(named, list) else f"{named:,}" if named else ""
        click.echo(f"{what.replace('_', ' ')}: {told or 'none'}")
    for column, rows in found.changed.items():
        for before, after in rows[:10].tolist():
            values = f"{found.old.columns[column][before]} → {found.new.columns[column][after]}"
            click.echo(f"  {column}: {values}  {found.new.paths[after]}")


def _tell(saved: Dataset, notes: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json({"dataset": saved.name, "version": saved.version, "rows": len(saved), "notes": list(notes)})
        return
    for note in notes:
        click.echo(note)
    click.echo(f"{saved.name}, version {saved.version}: {len(saved):,} rows")
