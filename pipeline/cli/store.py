"""`penult store`: what a store holds."""

from pathlib import Path

import click

from penult.pipeline.cli.options import json_option, store_option
from penult.pipeline.cli.output import print_json, print_table
from penult.store import open_store


@click.group()
def store() -> None:
    """Look into a store of features."""


@store.command()
@store_option
@json_option
def info(store: Path, as_json: bool) -> None:
    """Tell what the store holds: spaces, datasets, heads, files seen and images that failed."""
    opened = open_store(store, create=False)
    spaces = [{**space.spec.to_json(), "id": space.spec.id, "rows": len(space)} for space in opened.spaces()]
    for space in spaces:
        del space["card"]
    catalog = opened.catalog
    counts = {
        "files": len(catalog.files),
        "failed": len(catalog.ledger),
        "datasets": catalog.datasets.names(),
        "heads": list(catalog.heads.all()),
        "jobs": len(catalog.jobs.all()),
    }
    if as_json:
        print_json({"store": str(opened.path), "spaces": spaces, **counts})
        return
    columns = ("backbone", "tap", "view", "dtype", "width", "rows", "id")
    print_table(columns, [[space[column] for column in columns] for space in spaces])
    click.echo(
        f"{counts['files']:,} files seen, {counts['failed']:,} failed; datasets: {_spell(counts['datasets'])}; "
        f"heads: {_spell(counts['heads'])}; {counts['jobs']:,} jobs"
    )


@store.command()
@store_option
@json_option
def failures(store: Path, as_json: bool) -> None:
    """List the images that could not be used, and why."""
    rows = open_store(store, create=False).catalog.ledger.failures()
    if as_json:
        for row in rows:
            print_json(
                {"path": row.path, "reason": row.reason, "first_seen": row.first_seen, "last_seen": row.last_seen}
            )
        return
    print_table(("image", "reason", "first seen"), [(row.path, row.reason, row.first_seen) for row in rows])


def _spell(names: object) -> str:
    return ", ".join(names) if isinstance(names, list) and names else "none"
