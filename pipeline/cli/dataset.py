"""`penult dataset`: labels and splits, which are stored separately from the features."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import penult
from penult.defaults import TEST_SHARE
from penult.pipeline.cli.options import json_option, store_option
from penult.pipeline.cli.output import print_json, print_table

if TYPE_CHECKING:
    from penult.store.catalog.datasets import Dataset

version_option = click.option("--version", type=click.IntRange(1), help="Version of the dataset.  [default: newest]")

MOST_SHOWN = 10


@click.group()
def dataset() -> None:
    """Show datasets, and import or export labels."""


@dataset.command(name="list")
@store_option
@json_option
def list_(store: Path, as_json: bool) -> None:
    """List the datasets of a store."""
    datasets = penult.open_store(store, create=False).catalog.datasets
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
    """Show the classes and splits of a dataset.

    Also lists images that are in two splits or have two labels.
    """
    from penult.store.tables.leaks import find_contradictions, find_leaks

    table = penult.open_store(store, create=False).catalog.datasets.load(name, version)
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
    for what, conflicts in (("are in several splits", leaks), ("have several labels", contradictions)):
        if conflicts:
            click.echo(f"{len(conflicts):,} images {what}:")
        for conflict in conflicts[:MOST_SHOWN]:
            click.echo("  " + " = ".join(table.paths[row] for row in conflict.rows))


def _counts(table: "Dataset") -> Counter[tuple[str, str]]:
    absent = ["-"] * len(table)
    labels = absent if table.labels is None else [str(label) for label in table.labels]
    splits = absent if table.splits is None else [str(split) for split in table.splits]
    return Counter(zip(labels, splits, strict=True))


@dataset.command(name="import")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the dataset.  [default: the name of the table's file]")
@click.option(
    "--base", type=click.Path(path_type=Path), help="Folder that paths are relative to.  [default: the table's folder]"
)
@click.option("--replace", is_flag=True, help="Drop images that the table does not list, instead of keeping them.")
@store_option
@json_option
def import_(table: Path, name: str | None, base: Path | None, replace: bool, store: Path, as_json: bool) -> None:
    """Import corrections from a table, as a new version.

    The table is a .csv or .parquet file. It has a column path or key, and may have label, split and any further
    columns. Images that it does not list stay as they are. Later imports of the source do not change a corrected label.
    """
    from penult.pipeline.samples.relabelling import import_labels

    opened = penult.open_store(store, create=False)
    done = import_labels(opened, table, name=name or table.stem, base=base, replace=replace)
    _print_version(done.dataset, done.notes, as_json)


@dataset.command()
@click.argument("name")
@store_option
@json_option
def conflicts(name: str, store: Path, as_json: bool) -> None:
    """List corrected labels that the source has changed.

    The correction stays. Import a table with the right label to settle a conflict.
    """
    from penult.pipeline.samples.merging import conflicts_in

    found = conflicts_in(penult.open_store(store, create=False).catalog.datasets.load(name))
    if as_json:
        print_json([vars(conflict) for conflict in found])
        return
    print_table(("path", "label", "label in the source"), [(one.path, one.label, one.source_label) for one in found])


@dataset.command()
@click.argument("name")
@store_option
@json_option
def log(name: str, store: Path, as_json: bool) -> None:
    """List the versions of a dataset and what changed in each."""
    datasets = penult.open_store(store, create=False).catalog.datasets
    rows, before = [], None
    for version in datasets.versions(name):
        counts: dict[str, Any] = {} if before is None else datasets.diff(name, before, version.version).summary()
        changed = counts.get("changed", {})
        rows.append(
            {
                "version": version.version,
                "created": version.created,
                "rows": version.rows,
                "added": counts.get("added", version.rows),
                "removed": counts.get("removed", 0),
                "labels changed": changed.get("label", 0) if isinstance(changed, dict) else 0,
            }
        )
        before = version.version
    if as_json:
        print_json(rows)
        return
    print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])


@dataset.command()
@click.argument("name")
@store_option
@json_option
def undo(name: str, store: Path, as_json: bool) -> None:
    """Go back to the version before the newest one, as a new version."""
    from penult.errors import InputError

    datasets = penult.open_store(store, create=False).catalog.datasets
    versions = datasets.versions(name)
    if len(versions) < 2:
        raise InputError(f"{name!r} has only one version", expected="a version to go back to")
    _print_version(datasets.save(name, datasets.load(name, versions[-2].version)), (), as_json)


@dataset.command(name="export")
@click.argument("name")
@click.argument("table", type=click.Path(path_type=Path))
@version_option
@store_option
@json_option
def export(name: str, table: Path, version: int | None, store: Path, as_json: bool) -> None:
    """Write a dataset to a .csv or .parquet file."""
    from penult.store.tables.formats import write_table

    found = penult.open_store(store, create=False).catalog.datasets.load(name, version)
    write_table(table, found)
    if as_json:
        print_json({"dataset": name, "version": found.version, "rows": len(found), "path": str(table)})
    else:
        click.echo(f"{table}")


@dataset.command()
@click.argument("name")
@click.option(
    "--test",
    type=click.FloatRange(0, 1),
    default=TEST_SHARE,
    show_default=True,
    help="Share of the images in the test split.",
)
@click.option(
    "--val",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the images in the validation split.",
)
@click.option("--group", help="Column whose values are kept together: all rows with one value are in one split.")
@click.option("--column", help="Column of times to split by: rows before --cut are for training, the others for test.")
@click.option("--cut", help="Time to split at, with --column; for example 2024-06-01.")
@click.option("--salt", default="penult", show_default=True, help="Seed of the split; another word, another split.")
@store_option
@json_option
def split(name: str, store: Path, as_json: bool, **rule: float | str | None) -> None:
    """Split a dataset again, by image keys, groups or time."""
    from penult.pipeline.samples.relabelling import SplitRule, split_dataset

    made = split_dataset(penult.open_store(store, create=False), name, SplitRule(**rule))  # type: ignore[arg-type]  # click gives each its type
    _print_version(made, (), as_json)


@dataset.command()
@click.argument("name")
@click.argument("old", type=click.IntRange(1))
@click.argument("new", type=click.IntRange(1))
@store_option
@json_option
def diff(name: str, old: int, new: int, store: Path, as_json: bool) -> None:
    """List what changed between two versions of a dataset."""
    found = penult.open_store(store, create=False).catalog.datasets.diff(name, old, new)
    if as_json:
        print_json(found.summary())
        return
    for what, count in found.summary().items():
        named = [f"{count[name]:,} of {name}" for name in count] if isinstance(count, dict) else count
        text = ", ".join(named) if isinstance(named, list) else f"{named:,}" if named else ""
        click.echo(f"{what.replace('_', ' ')}: {text or 'none'}")
    for column, rows in found.changed.items():
        for before, after in rows[:MOST_SHOWN].tolist():
            values = f"{found.old.columns[column][before]} → {found.new.columns[column][after]}"
            click.echo(f"  {column}: {values}  {found.new.paths[after]}")


def _print_version(saved: "Dataset", notes: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json({"dataset": saved.name, "version": saved.version, "rows": len(saved), "notes": list(notes)})
        return
    for note in notes:
        click.echo(note)
    click.echo(f"{saved.name}, version {saved.version}: {len(saved):,} rows")
