"""Rescues a damaged catalog: finds the rows that fail their checksums, and copies the others to a new catalog."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from penult.store.catalog import blocks
from penult.store.catalog.database import Database, connect
from penult.store.catalog.rows import BLOCK, file_seal, loaded_path, row_seal

_COLUMNS = {
    "files": ("path", "size", "mtime_ns", "key"),
    "ledger": ("path", "size", "mtime_ns", "reason", "first_seen", "last_seen"),
    "jobs": ("id", "kind", "arguments", "started", "finished", "receipt"),
    "heads": ("name", "card", "recorded"),
    "datasets": ("name", "newest"),
    "versions": ("name", "version", "created", "digest", "contents"),
}

# UnicodeDecodeError occurs when SQLite's own message contains a damaged name.
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)


@dataclass(frozen=True)
class Rescue:
    """The result: the new path of the damaged file, the number of copied rows by table, and sentences on the losses."""

    aside: Path
    kept: dict[str, int]
    lost: tuple[str, ...]


def find_damage(database: Database) -> list[str]:
    """Reads the whole catalog and returns one sentence for each damage."""
    found: list[str] = []
    with database.reading() as connection:
        try:
            check = connection.execute("PRAGMA integrity_check(20)").fetchall()
            found += [f"SQLite reports: {line}" for (line,) in check if line != "ok"]
        except UNREADABLE as error:
            found.append(f"SQLite cannot read the file: {error}")
        for table in _COLUMNS:
            for _ in _sound_rows(connection, table, found.append):
                pass
        for values in _sound_rows(connection, "versions", lambda _: None):
            _check_blocks(connection, values, found.append)
    return found


def rescue(path: Path) -> Rescue:
    """Moves a damaged catalog aside, and makes a new one of the rows that pass their checks.

    No other process may have the catalog open.
    """
    aside = _move_aside(path)
    lost: list[str] = []
    kept = dict.fromkeys(_COLUMNS, 0)
    database = Database(path, readonly=False)
    try:
        with closing(connect(aside, "mode=ro")) as source:
            for table in _COLUMNS:
                kept[table] = _carry(source, database, table, lost.append)
            _fill_gaps(database, lost.append)
    except UNREADABLE as error:
        lost.append(f"the file cannot be read: {error}")
    finally:
        database.close()
    return Rescue(aside, kept, tuple(lost))


def _move_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    # Moves the log first: the file needs its log for the last commits, and keeps it if this is interrupted.
    for suffix in ("-wal", ""):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(aside.with_name(aside.name + suffix))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return aside


def _sound_rows(connection: Connection, table: str, complain: Callable[[str], None]) -> Iterator[tuple[Any, ...]]:
    """Yields the rows that pass their checks; after an unreadable page it continues from the other end."""
    columns = _COLUMNS[table]
    wrong = 0
    for direction in ("ASC", "DESC"):
        order = ", ".join(f"{name} {direction}" for name in columns[: 2 if table == "versions" else 1])
        statement = f"SELECT {', '.join(columns)}, seal FROM {table} ORDER BY {order}"  # noqa: S608 - our own names
        try:
            for *values, seal in connection.execute(statement):
                if _seal(table, values) == seal:
                    yield tuple(values)
                elif direction == "ASC":
                    wrong += 1
            break
        except UNREADABLE as error:
            if direction == "ASC":
                complain(f"the table {table} cannot be read to its end: {error}")
    if wrong:
        complain(f"{wrong} rows of the table {table} fail their checksums")


def _seal(table: str, values: list[Any]) -> int:
    if table == "files":
        return file_seal(loaded_path(values[0]), *values[1:])
    return row_seal(loaded_path(values[0]), *values[1:]) if table == "ledger" else row_seal(*values)


def _carry(source: Connection, target: Database, table: str, complain: Callable[[str], None]) -> int:
    marks = ", ".join("?" * (len(_COLUMNS[table]) + 1))
    statement = f"INSERT OR IGNORE INTO {table} VALUES ({marks})"  # noqa: S608 - our own names
    rows = _sound_rows(source, table, complain)
    if table == "versions":
        rows = (values for values in rows if _check_blocks(source, values, complain))
    kept = 0
    while block := list(islice(rows, BLOCK)):
        with target.writing() as connection:
            for values in block:
                if table == "versions" and values[-1] is not None:
                    blocks.copy(source, connection, json.loads(values[-1]))
                kept += connection.execute(statement, (*values, _seal(table, list(values)))).rowcount
    return kept


def _check_blocks(connection: Connection, values: tuple[Any, ...], complain: Callable[[str], None]) -> bool:
    name, number, _, _, contents = values
    try:
        if contents is not None:
            blocks.get(connection, json.loads(contents))
    except (ValueError, LookupError, TypeError, *UNREADABLE) as error:
        complain(f"version {number} of dataset {name!r}: {error}")
        return False
    return True


def _fill_gaps(database: Database, complain: Callable[[str], None]) -> None:
    """Marks lost versions as removed, so that later versions do not reuse their numbers."""
    with database.writing() as connection:
        newest = dict(connection.execute("SELECT name, newest FROM datasets"))
        there = set(connection.execute("SELECT name, version FROM versions"))
        for name, number in there:
            newest[name] = max(number, newest.get(name, 0))
        for name, last in newest.items():
            connection.execute("INSERT OR REPLACE INTO datasets VALUES (?, ?, ?)", (name, last, row_seal(name, last)))
            for number in range(1, last + 1):
                if (name, number) not in there:
                    complain(f"version {number} of dataset {name!r} is lost")
                    values = (name, number, "", "", None)
                    connection.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?)", (*values, row_seal(*values)))
