"""`penult store`: show, check and tidy a store, and move features to and from other formats."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import penult
from penult.defaults import LAYOUTS
from penult.pipeline.cli.app import FAILED
from penult.pipeline.cli.options import json_option, store_argument, store_option
from penult.pipeline.cli.output import print_json, print_table, progress

if TYPE_CHECKING:
    from penult.store import Space, Store
    from penult.store.diff import SpaceDiff


@click.group()
def store() -> None:
    """Show, check and tidy a store; import or export features."""


@store.command()
@store_argument
@json_option
def info(store: Path, as_json: bool) -> None:
    """Show the spaces, datasets, heads and failures of a store."""
    opened = penult.open_store(store, create=False)
    spaces = [_summary(space) for space in opened.spaces()]
    catalog = opened.catalog
    counts = {
        "files": len(catalog.files),
        "failed": len(catalog.ledger),
        "datasets": catalog.datasets.names(),
        "heads": list(catalog.heads.all()),
        "jobs": len(catalog.jobs.all()),
    }
    if as_json:
        print_json({"store": opened.address, "spaces": spaces, **counts})
        return
    columns = ("backbone", "tap", "view", "dtype", "width", "rows", "shards", "megabytes", "id")
    print_table(columns, [[space[column] for column in columns] for space in spaces])
    click.echo(
        f"{counts['files']:,} files seen, {counts['failed']:,} failed; datasets: {_joined(catalog.datasets.names())}; "
        f"heads: {_joined(list(catalog.heads.all()))}; {counts['jobs']:,} jobs"
    )


def _summary(space: "Space") -> dict[str, Any]:
    stats = space.stats()
    spec = space.spec.to_json()
    del spec["card"]
    return spec | {
        "id": space.spec.id,
        "rows": stats.keys,
        "shards": stats.shards,
        "megabytes": round(stats.size_bytes / 1e6, 1),
    }


def _joined(names: list[str]) -> str:
    return ", ".join(names) or "none"


@store.command()
@store_argument
@json_option
def failures(store: Path, as_json: bool) -> None:
    """List the images that could not be used, and why."""
    rows = penult.open_store(store, create=False).catalog.ledger.failures()
    if as_json:
        for row in rows:
            print_json({key: value for key, value in asdict(row).items() if key not in ("size", "mtime_ns")})
        return
    print_table(("image", "reason", "first seen"), [(row.path, row.reason, row.first_seen) for row in rows])


@store.command()
@click.option("--repair", is_flag=True, help="Move damaged files aside, and keep every row that can still be read.")
@store_argument
@json_option
@click.pass_context
def verify(ctx: click.Context, /, store: Path, repair: bool, as_json: bool) -> None:
    """Check every file of a store; exit with 1 on damage.

    This reads all features, backbones and heads. After --repair, run the same 'penult extract' again: it extracts only
    the rows that were lost.
    """
    from penult.pipeline.heads.saved_heads import find_damage

    opened = penult.open_store(store, create=False)
    damaged = list(opened.catalog.find_damage())
    others = list(find_damage(opened))
    reports = []
    for space in opened.spaces():
        with _bar(f"Verifying {space.spec.name}", "bytes") as advance:
            reports.append(space.verify(repair=repair, progress=advance))
    if as_json:
        print_json(
            {
                "catalog": damaged,
                "others": others,
                "spaces": [
                    {
                        "id": report.spec.id,
                        "shards": report.shards,
                        "size_bytes": report.size_bytes,
                        "damage": [str(damage) for damage in report.damage],
                        "keys_to_extract": [key.tobytes().hex() for key in report.keys],
                    }
                    for report in reports
                ],
            }
        )
    else:
        for sentence in (*(f"catalog: {sentence}" for sentence in damaged), *others):
            click.echo(sentence)
        for report in reports:
            for damage in report.damage:
                click.echo(f"{report.spec.name}: {damage}")
            state = "sound" if report.is_sound else f"{len(report.keys):,} rows to extract again"
            click.echo(f"{report.spec.name}: {report.shards:,} shards, {report.size_bytes / 1e6:,.1f} MB, {state}")
    if damaged or others or not all(report.is_sound for report in reports):
        ctx.exit(FAILED)


@store.command()
@store_argument
@json_option
def compact(store: Path, as_json: bool) -> None:
    """Merge small shards into large ones for fast reading.

    Other processes can read and write at the same time.
    """
    done = {}
    for space in penult.open_store(store, create=False).spaces():
        with _bar(f"Compacting {space.spec.name}", "merges") as advance:
            done[space.spec.name] = space.compact(progress=advance)
    if as_json:
        print_json({name: asdict(each) for name, each in done.items()})
        return
    for name, each in done.items():
        click.echo(f"{name}: {each.shards_before:,} shards became {each.shards_after:,}")


@store.command()
@store_argument
@json_option
def gc(store: Path, as_json: bool) -> None:
    """Remove leftovers of compaction and killed jobs.

    Files are removed only after a grace period.
    """
    done = {space.spec.name: space.collect() for space in penult.open_store(store, create=False).spaces()}
    if as_json:
        print_json({name: asdict(each) for name, each in done.items()})
        return
    for name, each in done.items():
        freed = f"{each.files_removed:,} files removed ({each.bytes_removed / 1e6:,.1f} MB)"
        click.echo(f"{name}: {each.shards_moved:,} shards moved to the trash, {freed}")


@store.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def diff(ctx: click.Context, /, first: Path, second: Path, as_json: bool) -> None:
    """Compare two stores bit for bit; exit with 1 if they differ.

    Only the rows count: their order, their shards and the machine that wrote them do not.
    """
    from penult.store.diff import diff_stores

    with _bar("Comparing", "rows") as advance:
        found = diff_stores(
            penult.open_store(first, create=False), penult.open_store(second, create=False), progress=advance
        )
    if as_json:
        print_json({"equal": all(each.is_empty for each in found), "spaces": [_difference(each) for each in found]})
    for each in () if as_json else found:
        numbers = {
            f"only in {first}": each.only_in_first,
            f"only in {second}": each.only_in_second,
            "different": each.different,
        }
        parts = [
            f"{len(keys):,} {what}, such as {keys[0].tobytes().hex()}" for what, keys in numbers.items() if len(keys)
        ]
        click.echo(f"{each.spec.name}: " + "; ".join([f"{each.same:,} rows are the same", *parts]))
    if not all(each.is_empty for each in found):
        ctx.exit(FAILED)


def _difference(found: "SpaceDiff") -> dict[str, Any]:
    lists = {name: getattr(found, name) for name in ("only_in_first", "only_in_second", "different")}
    keys = {name: [key.tobytes().hex() for key in listed] for name, listed in lists.items()}
    return {"id": found.spec.id, "name": found.spec.name, "same": found.same, **keys}


@store.command(name="export")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--layout", type=click.Choice(LAYOUTS), default="h5", show_default=True, help="File format to write.")
@click.option("--space", help="Space to export, as BACKBONE:TAP.  [default: the only space]")
@click.option("--dataset", help="Export only the rows of this dataset, with its columns.")
@store_option
@json_option
def export(destination: Path, layout: str, space: str | None, dataset: str | None, store: Path, as_json: bool) -> None:
    """Write features to files for other tools.

    The formats are one plain HDF5 file, .npy files, Parquet, and the layouts of CLIP retrieval and pathology tools.
    """
    from penult.store.layouts import export_store

    opened = penult.open_store(store, create=False)
    table = None if dataset is None else opened.catalog.datasets.load(dataset)
    with _bar("Exporting", "rows") as advance:
        done = export_store(
            opened,
            destination,
            layout=layout,
            space=_space(opened, space) if space else None,
            dataset=table,
            progress=advance,
        )
    if as_json:
        print_json(asdict(done))
        return
    for note in done.notes:
        click.echo(note)
    click.echo(f"{done.rows:,} rows written to {done.path}")


@store.command(name="import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--layout", type=click.Choice(LAYOUTS), help="File format to read.  [default: detected]")
@click.option("--backbone", help="Name of the backbone that made the features, if the file does not contain it.")
@click.option(
    "--images", type=click.Path(path_type=Path), help="Folder of the images, if the rows are named after image files."
)
@click.option("--dataset", help="Save the other columns of the file as a dataset of this name.")
@store_option
@json_option
def import_(
    source: Path,
    layout: str | None,
    backbone: str | None,
    images: Path | None,
    dataset: str | None,
    store: Path,
    as_json: bool,
) -> None:
    """Read features written by other tools or another store."""
    from penult.store.layouts import import_store

    with _bar("Importing", "rows") as advance:
        done = import_store(
            penult.open_store(store),
            source,
            layout=layout,
            backbone=backbone,
            images=images,
            dataset=dataset,
            progress=advance,
        )
    summary = {
        "space": done.space.spec.id,
        "layout": done.layout,
        "rows": done.rows,
        "dataset": done.dataset.name if done.dataset else None,
        "notes": list(done.notes),
    }
    if as_json:
        print_json(summary)
        return
    for note in done.notes:
        click.echo(note)
    click.echo(f"{done.rows:,} rows read into {done.space.spec.name}")


def _space(store: "Store", name: str) -> "Space":
    from penult.store.features import choose_spaces

    (space,) = choose_spaces(store, name)
    return space


@contextmanager
def _bar(label: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a progress bar, and yields a callback that takes the finished and the total amount."""
    with progress().task(label, unit=unit) as task:
        last = 0

        def advance(done: int, total: int) -> None:
            nonlocal last
            task.expect(total)
            task.advance(done - last)
            last = done

        yield advance
