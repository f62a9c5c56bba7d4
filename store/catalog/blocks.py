"""Stores tables as blocks named by their SHA-256, so that versions of a dataset share equal blocks."""

import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import pairwise
from sqlite3 import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.store.tables.columns import Kind, kind_of, missing_in
from penult.store.tables.table import Table

CUT_EVERY, LARGEST = 8_192, 65_536
"""The average and the largest number of rows in a block."""

_LARGEST_BYTES = 2**30

Contents = dict[str, Any]
"""Plain data: ``rows``, ``cuts`` (row numbers from 0 to rows), and the kind and block digests of each column."""


def put(connection: Connection, table: Table) -> Contents:
    """Stores the new blocks of ``table``, and returns the contents that list all of its blocks."""
    cuts = _cuts(table.keys)
    columns: dict[str, Any] = {}
    for name, kind, values in _columns(table):
        digests = []
        for start, end in pairwise(cuts):
            data = values[start:end].tobytes() if kind == "key" else encode(values[start:end], kind)
            digest = sha256(data).digest()
            digests.append(digest.hex())
            if not connection.execute("SELECT 1 FROM blocks WHERE digest = ?", (digest,)).fetchone():
                # Level 1 already shrinks labels and paths many times, and a million rows take a second.
                packed = zlib.compress(data, 1)
                connection.execute("INSERT INTO blocks VALUES (?, ?, ?)", (digest, len(data), packed))
        columns[name] = {"kind": kind, "blocks": digests}
    return {"rows": len(table), "cuts": cuts, "columns": columns}


def get(connection: Connection, contents: Contents) -> Table:
    """Returns the table of ``contents``; raises ValueError if a block is missing or does not match its digest."""
    cuts: list[int] = contents["cuts"]
    columns: dict[str, NDArray[Any]] = {}
    for name in ["key", "path", *contents["order"]]:
        kind, digests = contents["columns"][name]["kind"], contents["columns"][name]["blocks"]
        parts = [
            _key_rows(data) if kind == "key" else decode(data, kind, end - start)
            for data, (start, end) in zip(_blocks(connection, digests), pairwise(cuts), strict=True)
        ]
        columns[name] = np.concatenate(parts) if parts else np.empty(0, object)
    keys, paths = columns.pop("key"), columns.pop("path")
    return Table(keys, tuple(paths), columns)


def copy(source: Connection, target: Connection, contents: Contents) -> None:
    """Copies the blocks of ``contents`` from one catalog to another."""
    for digest in sorted(_named(contents)):
        row = source.execute("SELECT digest, size, data FROM blocks WHERE digest = ?", (digest,)).fetchone()
        target.execute("INSERT OR IGNORE INTO blocks VALUES (?, ?, ?)", row)


def keep_only(connection: Connection, kept: Iterable[Contents]) -> None:
    """Deletes the blocks that no contents in ``kept`` list."""
    named = {digest for contents in kept for digest in _named(contents)}
    there = {digest for (digest,) in connection.execute("SELECT digest FROM blocks")}
    connection.executemany("DELETE FROM blocks WHERE digest = ?", ((digest,) for digest in there - named))


def _named(contents: Contents) -> set[bytes]:
    return {bytes.fromhex(digest) for column in contents["columns"].values() for digest in column["blocks"]}


def _columns(table: Table) -> Iterator[tuple[str, Any, Any]]:
    yield "key", "key", table.keys
    yield "path", "text", table.paths
    for name, values in table.columns.items():
        yield name, kind_of(values), values


def _cuts(keys: NDArray[np.uint8]) -> list[int]:
    """Returns the row numbers where blocks start and end.

    The key of a row decides whether a block ends after it, so rows that are inserted later change only their own block.
    """
    tails = np.ascontiguousarray(keys[:, 14:]).view("<u2")[:, 0]
    cuts = [0]
    for end in [*(np.flatnonzero(tails % CUT_EVERY == 0) + 1).tolist(), len(keys)]:
        cuts += range(cuts[-1] + LARGEST, end, LARGEST)
        if end > cuts[-1]:
            cuts.append(end)
    return cuts


def _key_rows(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8).reshape(-1, 16)


def _blocks(connection: Connection, digests: Iterable[str]) -> Iterator[bytes]:
    for digest in digests:
        row = connection.execute("SELECT size, data FROM blocks WHERE digest = ?", (bytes.fromhex(digest),)).fetchone()
        if row is None:
            raise ValueError("a block of rows is missing")
        yield _unpacked(row[0], row[1], digest)


def _unpacked(size: int, packed: bytes, digest: str) -> bytes:
    # Checks the size first: a malicious block must not unpack to more than it states, or state too much.
    if not 0 <= size <= _LARGEST_BYTES:
        raise ValueError(f"a block of rows claims {size} bytes")
    try:
        data = zlib.decompressobj().decompress(packed, size + 1)
    except zlib.error as error:
        raise ValueError(f"a block of rows cannot be decompressed: {error}") from error
    if len(data) != size or sha256(data).hexdigest() != digest:
        raise ValueError("a block of rows fails its checksum")
    return data


def encode(values: NDArray[Any] | list[str], kind: Kind) -> bytes:
    """Encodes one column's block as bytes that depend only on the values."""
    if kind == "text":
        return _encode_text(list(values))
    column = np.asarray(values)
    missing = missing_in(column)
    filled = np.where(missing, 0, column) if missing.any() else column
    dtype = {"int": "<i8", "float": "<f8", "bool": "u1"}[kind]
    return np.packbits(missing).tobytes() + filled.astype(dtype).tobytes()


def decode(data: bytes, kind: Kind, rows: int) -> NDArray[Any]:
    """Returns the column that ``encode`` encoded, as an object array if values are missing."""
    if kind == "text":
        return _decode_text(data, rows)
    mask_bytes = (rows + 7) // 8
    missing = np.unpackbits(np.frombuffer(data, np.uint8, mask_bytes), count=rows).astype(np.bool_)
    dtype = {"int": "<i8", "float": "<f8", "bool": "u1"}[kind]
    values = np.frombuffer(data, dtype, rows, mask_bytes).astype({"int": "i8", "float": "f8", "bool": "?"}[kind])
    if not missing.any():
        return values
    if kind == "float":
        values[missing] = np.nan
        return values
    column = values.astype(object)
    column[missing] = None
    return column


def _encode_text(values: list[str | None]) -> bytes:
    # Code 0 marks a missing value; distinct texts get the codes from 1 on, in the order of their first rows.
    numbers: dict[str | None, int] = {None: 0}
    codes = np.array([numbers.setdefault(value, len(numbers)) for value in values], "<u4")
    del numbers[None]
    texts = [text for text in numbers if text is not None]
    lengths = np.array([len(text) for text in texts], "<u4")
    head = np.array([len(texts)], "<u4")
    return b"".join(
        [head.tobytes(), codes.tobytes(), lengths.tobytes(), "".join(texts).encode("utf-8", "surrogatepass")]
    )


def _decode_text(data: bytes, rows: int) -> NDArray[Any]:
    count = int(np.frombuffer(data, "<u4", 1)[0])
    codes = np.frombuffer(data, "<u4", rows, 4)
    lengths = np.frombuffer(data, "<u4", count, 4 + 4 * rows)
    joined = data[4 + 4 * rows + 4 * count :].decode("utf-8", "surrogatepass")
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    texts = np.empty(count + 1, object)
    texts[1:] = [joined[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    column: NDArray[Any] = texts[codes]
    return column
