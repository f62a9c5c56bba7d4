"""`penult store`: what a store holds, whether it is whole, and how it moves to and from other formats."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from penult.pipeline.cli.app import FAILED
from penult.pipeline.cli.options import json_option, store_argument, store_option
from penult.pipeline.cli.output import print_json, print_table, progress
from penult.store import Space, Store, open_store
from penult.store.diff import SpaceDiff, diff_stores
from penult.store.layouts import LAYOUTS, export_store, import_store


@click.group()
def store() -> None:
    """Look into a store of features, check it, tidy it, and bring features in and out."""


@store.command()
@store_argument
@json_option
def info(store: Path, as_json: bool) -> None:
    """Tell what the store holds: spaces, datasets, heads, files seen and images that failed."""
    opened = open_store(store, create=False)
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
        f"{counts['files']:,} files seen, {counts['failed']:,} failed; datasets: {_spell(catalog.datasets.names())}; "
        f"heads: {_spell(list(catalog.heads.all()))}; {counts['jobs']:,} jobs"
    )


def _summary(space: Space) -> dict[str, Any]:
    stats = space.stats()
    spec = space.spec.to_json()
    del spec["card"]
    return spec | {
        "id": space.spec.id,
        "rows": stats.keys,
        "shards": stats.shards,
        "megabytes": round(stats.size_bytes / 1e6, 1),
    }


def _spell(names: list[str]) -> str:
    return ", ".join(names) or "none"


@store.command()
@store_argument
@json_option
def failures(store: Path, as_json: bool) -> None:
    """List the images that could not be used, and why."""
    rows = open_store(store, create=False).catalog.ledger.failures()
    if as_json:
        for row in rows:
            print_json({key: value for key, value in asdict(row).items() if key not in ("size", "mtime_ns")})
        return
    print_table(("image", "reason", "first seen"), [(row.path, row.reason, row.first_seen) for row in rows])


@store.command()
@click.option("--repair", is_flag=True, help="Set damaged files aside, and keep every row that can still be read.")
@store_argument
@json_option
@click.pass_context
def verify(ctx: click.Context, /, store: Path, repair: bool, as_json: bool) -> None:
    """Read everything, backbones and heads too, and name what is damaged; exits with 1 if anything is.

    After --repair, run the same 'penult extract' again: it extracts what was lost, and nothing else.
    """
    from penult.pipeline.heads.saved_heads import find_damage

    opened = open_store(store, create=False)
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
    """Merge small shards into large ones, so that reading stays fast; others may read and write meanwhile."""
    done = {}
    for space in open_store(store, create=False).spaces():
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
    """Remove what compaction and killed jobs left behind, after a time of grace."""
    done = {space.spec.name: space.collect() for space in open_store(store, create=False).spaces()}
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
    """Tell whether two stores hold the same rows, bit for bit; exits with 1 if they do not.

    In what order, by which machine and in which shards the rows came does not count.
    """
    with _bar("Comparing", "rows") as advance:
        found = diff_stores(open_store(first, create=False), open_store(second, create=False), progress=advance)
    if as_json:
        print_json({"equal": all(each.is_empty for each in found), "spaces": [_told(each) for each in found]})
    for each in () if as_json else found:
        numbers = {
            f"only in {first}": each.only_in_first,
            f"only in {second}": each.only_in_second,
            "different": each.different,
        }
        told = [
            f"{len(keys):,} {what}, such as {keys[0].tobytes().hex()}" for what, keys in numbers.items() if len(keys)
        ]
        click.echo(f"{each.spec.name}: " + "; ".join([f"{each.same:,} rows are the same", *told]))
    if not all(each.is_empty for each in found):
        ctx.exit(FAILED)


def _told(found: SpaceDiff) -> dict[str, Any]:
    lists = {name: getattr(found, name) for name in ("only_in_first", "only_in_second", "different")}
    keys = {name: [key.tobytes().hex() for key in listed] for name, listed in lists.items()}
    return {"id": found.spec.id, "name": found.spec.name, "same": found.same, **keys}


@store.command(name="export")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--layout", type=click.Choice(sorted(LAYOUTS)), default="h5", show_default=True, help="How it is laid out."
)
@click.option("--space", help="Which rows, as backbone:tap.  [default: the only space]")
@click.option("--dataset", help="Only the rows of this dataset, with its columns.")
@store_option
@json_option
def export(destination: Path, layout: str, space: str | None, dataset: str | None, store: Path, as_json: bool) -> None:
    """Write features for other tools: one plain HDF5 file, .npy, Parquet, or the layouts of pathology tools."""
    opened = open_store(store, create=False)
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
@click.option("--layout", type=click.Choice(sorted(LAYOUTS)), help="The format.  [default: found out]")
@click.option("--backbone", help="What made the features, where the file does not tell.")
@click.option(
    "--images", type=click.Path(path_type=Path), help="The folder of the images that the rows are named after."
)
@click.option("--dataset", help="The name of the dataset of what stands beside the features.")
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
    """Read features that other tools, or another store, wrote."""
    with _bar("Importing", "rows") as advance:
        done = import_store(
            open_store(store),
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


def _space(store: Store, name: str) -> Space:
    from penult.store.features import choose_spaces

    (space,) = choose_spaces(store, name)
    return space


@contextmanager
def _bar(label: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Shows work that tells how much of how much is done."""
    with progress().task(label, unit=unit) as task:
        last = 0

        def advance(done: int, total: int) -> None:
            nonlocal last
            task.expect(total)
            task.advance(done - last)
            last = done

        yield advance
