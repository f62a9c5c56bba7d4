"""Merges two catalogs that started as copies of one: applies another process's changes to this one."""

import json
import secrets
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from penult.store.catalog import blocks
from penult.store.catalog.database import Database, connect

KEYS = {
    "blocks": ("digest",),
    "files": ("path",),
    "ledger": ("path",),
    "jobs": ("id",),
    "heads": ("name",),
    "datasets": ("name",),
    "versions": ("name", "version"),
}
"""The primary key of each table."""


class ConflictError(Exception):
    """Two processes made changes that exclude each other."""


def back_up(database: Database, path: Path) -> None:
    """Writes a copy of the whole catalog at this moment."""
    path.unlink(missing_ok=True)
    with closing(connect(path, "mode=rwc")) as target, database.reading() as source:
        source.backup(target)


def restore(database: Database, path: Path) -> None:
    """Replaces the content of the catalog with that of a file."""
    with closing(connect(path, "mode=ro")) as source:
        database.replace_by(source)


def skip_numbers(database: Database) -> None:
    """Makes new jobs start at a number from the time and a random number, so that no two processes share one."""
    with database.writing(may_wait=True) as connection:
        last = connection.execute("SELECT max(id) FROM jobs").fetchone()[0] or 0
        number = max(last, time.time_ns() // 1000) + secrets.randbelow(1 << 24)
        connection.execute("DELETE FROM sqlite_sequence WHERE name = 'jobs'")
        connection.execute("INSERT INTO sqlite_sequence VALUES ('jobs', ?)", (number,))


def merge(database: Database, base: Path, theirs: Path) -> None:
    """Applies the changes from ``base`` to ``theirs`` to the catalog.

    If both processes changed a file, failure or head, this process's row wins, as if it had come last. If both saved
    the same version of a dataset with different content, it raises `ConflictError` and changes nothing.
    """
    with database.attached({"base": base, "theirs": theirs}) as connection:
        for table, keys in KEYS.items():
            _merge_table(connection, table, keys)
        rows = connection.execute("SELECT contents FROM main.versions WHERE contents IS NOT NULL").fetchall()
        blocks.keep_only(connection, [json.loads(text) for (text,) in rows])


def _merge_table(connection: Connection, table: str, keys: tuple[str, ...]) -> None:
    columns = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]
    places, named = [columns.index(key) for key in keys], ", ".join(keys)
    put = f"INSERT OR REPLACE INTO main.{table} VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - our own names
    came = f"SELECT * FROM theirs.{table} EXCEPT SELECT * FROM base.{table}"  # noqa: S608 - our own names
    for row in connection.execute(came).fetchall():
        ours, old = _rows_of(connection, table, keys, [row[place] for place in places])
        if ours == old:
            connection.execute(put, row)
        elif ours is not None:
            merged = _agreed(table, dict(zip(columns, ours, strict=True)), dict(zip(columns, row, strict=True)))
            connection.execute(put, list(merged.values()))
    if table == "blocks":
        return  # blocks are deleted with the last version that lists them
    went = f"SELECT {named} FROM base.{table} EXCEPT SELECT {named} FROM theirs.{table}"  # noqa: S608 - our own names
    for name in connection.execute(went).fetchall():
        ours, old = _rows_of(connection, table, keys, name)
        if ours == old:
            connection.execute(f"DELETE FROM main.{table} WHERE {_are(keys)}", name)  # noqa: S608 - our own names


def _rows_of(connection: Connection, table: str, keys: tuple[str, ...], name: Sequence[Any]) -> tuple[Any, Any]:
    """Returns the row of a key in this process's catalog and in the base, None if it is missing."""
    where = _are(keys)
    ours = connection.execute(f"SELECT * FROM main.{table} WHERE {where}", name).fetchone()  # noqa: S608 - our own names
    old = connection.execute(f"SELECT * FROM base.{table} WHERE {where}", name).fetchone()  # noqa: S608 - our own names
    return ours, old


def _are(keys: tuple[str, ...]) -> str:
    return " AND ".join(f"{key} = ?" for key in keys)


def _agreed(table: str, ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Returns the row to keep after both processes changed it."""
    if (
        table == "versions"
        and None not in (ours["contents"], theirs["contents"])
        and ours["digest"] != theirs["digest"]
    ):
        raise ConflictError(f"it has saved version {theirs['version']} of the dataset {theirs['name']!r}")
    if table == "jobs" and ours["started"] != theirs["started"]:
        raise ConflictError(f"it has given the number {theirs['id']} to a job")
    if table == "datasets" and theirs["newest"] > ours["newest"]:
        return theirs
    return ours
