"""How file names are kept in the catalog: any that a file system has, found again by the thousand."""

import json
from collections.abc import Iterator, Sequence
from sqlite3 import Connection
from typing import Any

from penult.store.catalog.database import Database
from penult.store.catalog.sqlite_errors import damaged

BLOCK = 20_000
"""How many rows one statement handles: memory stays that of a block, and a row costs the least."""


def stored_path(path: str) -> str | bytes:
    """Returns ``path`` as SQLite takes it: text, or bytes where the name is no valid Unicode."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogatepass")
    return path


def loaded_path(stored: str | bytes) -> str:
    r"""Returns the path that ``stored_path`` made into ``stored``.

    >>> loaded_path(stored_path("caf\udce9.jpg")) == "caf\udce9.jpg"
    True
    """
    # A damaged row may hold anything; whatever comes of it fails the row's checksum.
    if not isinstance(stored, bytes):
        return str(stored)
    try:
        return stored.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return ""


def rows_at(connection: Connection, table: str, columns: str, paths: Sequence[str]) -> list[tuple[Any, ...]]:
    """Returns, for each of ``paths`` that the table has, its place in ``paths`` and the asked columns."""
    try:
        asked = json.dumps(paths, ensure_ascii=False)
        asked.encode()
        others: list[tuple[int, bytes]] = []
    except UnicodeEncodeError:
        stored = [stored_path(path) for path in paths]
        asked = json.dumps([path if isinstance(path, str) else None for path in stored], ensure_ascii=False)
        others = [(place, path) for place, path in enumerate(stored) if isinstance(path, bytes)]
    # One statement for the whole block: four times as quick as one for each path.
    rows = connection.execute(
        f"SELECT place, {columns} FROM (SELECT key AS place, value AS wanted FROM json_each(?))"  # noqa: S608 - our own names
        f" JOIN {table} ON path = wanted",
        (asked,),
    ).fetchall()
    for place, path in others:
        for row in connection.execute(f"SELECT {columns} FROM {table} WHERE path = ?", (path,)):  # noqa: S608 - our own names
            rows.append((place, *row))
    return rows


def scan(database: Database, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """Yields the path and the asked columns of every row in order, and holds no transaction between blocks."""
    is_text, last = True, b""
    while True:
        with database.reading() as connection:
            # Bytes and a cast, because the text of a damaged row may be none that can be handed back as text.
            rows = connection.execute(
                f"SELECT path, {columns} FROM {table}"  # noqa: S608 - our own names
                " WHERE path > CASE WHEN ? THEN CAST(? AS TEXT) ELSE ? END ORDER BY path LIMIT ?",
                (is_text, last, last, BLOCK),
            ).fetchall()
        if not rows:
            return
        yield from rows
        before = (not is_text, last)
        is_text, last = _position(rows[-1][0])
        if (not is_text, last) <= before:  # or this would never end
            raise damaged(database.path, f"the table {table} is out of order")


def _position(stored: Any) -> tuple[bool, bytes]:
    """Returns where SQLite sorts a path: all text comes before all bytes."""
    return (False, stored) if isinstance(stored, bytes) else (True, str(stored).encode("utf-8", "surrogateescape"))
