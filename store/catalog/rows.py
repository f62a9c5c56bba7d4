"""How the catalog stores values: paths of any file name, times, JSON, and a checksum (the seal) for each row.

SQLite returns a flipped bit as if it had been written, so each row has a checksum of its own.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from sqlite3 import Connection
from typing import Any

import xxhash

from penult.errors import InputError
from penult.store.catalog.database import Database
from penult.store.catalog.sqlite_errors import damaged

BLOCK = 20_000
"""The rows of one statement: few enough to bound memory, and enough to be fast."""

NO_SEAL = -1
"""Differs from every seal, because seals are 63 bits."""

_numbers = struct.Struct("<qq").pack


def now() -> str:
    """Returns the current time as the catalog stores it: UTC in ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def to_json(values: Mapping[str, Any]) -> str:
    """Returns plain values as JSON text."""
    try:
        return json.dumps(dict(values))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The catalog cannot store these values: {error}",
            expected="text, numbers, booleans, None, and lists and dicts of these",
        ) from error


def text_bytes(text: str) -> bytes:
    """Returns ``text`` as bytes, without loss for file names that are not valid Unicode."""
    return text.encode("utf-8", "surrogatepass")


def file_seal(path: str, size: int, mtime_ns: int, key: bytes) -> int:
    """Returns the checksum of a row of seen files, or -1 for values of wrong types."""
    try:
        return xxhash.xxh3_64_intdigest(_numbers(size, mtime_ns) + key + text_bytes(path)) >> 1
    except (TypeError, struct.error):  # a damaged row may contain values of any type
        return NO_SEAL


def row_seal(*values: str | int | None) -> int:
    """Returns the checksum of any other row, or -1 for values of wrong types.

    >>> row_seal("D", 1, None) == row_seal("D", 1, None)
    True
    >>> row_seal("D", 1, None) == row_seal("D", 2, None)
    False
    """
    try:
        return xxhash.xxh3_64_intdigest(json.dumps(values).encode()) >> 1
    except TypeError:  # a damaged row may contain values of any type
        return NO_SEAL


def stored_path(path: str) -> str | bytes:
    """Returns ``path`` as SQLite stores it: text, or bytes if the name is not valid Unicode."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogatepass")
    return path


def loaded_path(stored: str | bytes) -> str:
    r"""Returns the path from its stored form, the inverse of ``stored_path``.

    >>> loaded_path(stored_path("caf\udce9.jpg")) == "caf\udce9.jpg"
    True
    """
    # A damaged row may contain any value; the result then fails the row's checksum.
    if not isinstance(stored, bytes):
        return str(stored)
    try:
        return stored.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return ""


def rows_at(connection: Connection, table: str, columns: str, paths: Sequence[str]) -> list[tuple[Any, ...]]:
    """Returns the place in ``paths`` and the columns of each path that the table contains."""
    try:
        asked = json.dumps(paths, ensure_ascii=False)
        asked.encode()
        others: list[tuple[int, bytes]] = []
    except UnicodeEncodeError:
        stored = [stored_path(path) for path in paths]
        asked = json.dumps([path if isinstance(path, str) else None for path in stored], ensure_ascii=False)
        others = [(place, path) for place, path in enumerate(stored) if isinstance(path, bytes)]
    # One statement for the whole block is four times as fast as one for each path.
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
    """Yields the path and the columns of every row in order, with one transaction for each block."""
    is_text, last = True, b""
    while True:
        with database.reading() as connection:
            # Passed as bytes with a cast, because the text of a damaged row may not be valid text.
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
        if (not is_text, last) <= before:  # otherwise the loop would never end
            raise damaged(database.path, f"the table {table} is out of order")


def _position(stored: Any) -> tuple[bool, bytes]:
    """Returns the sort key of a path in SQLite: all text comes before all bytes."""
    return (False, stored) if isinstance(stored, bytes) else (True, str(stored).encode("utf-8", "surrogateescape"))
