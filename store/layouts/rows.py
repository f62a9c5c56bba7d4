"""Blocks of rows for import and export: features with their keys, paths and columns."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.catalog.files import Files
from penult.store.catalog.rows import loaded_path, stored_path
from penult.store.keys import Keys
from penult.store.spaces.space import Space
from penult.store.spec import FeatureType, SpaceSpec
from penult.store.tables.columns import Kind, kind_of
from penult.store.tables.table import Table

BLOCK_BYTES, BLOCK_ROWS = 32 << 20, 16_384

Progress = Callable[[int, int], None]
"""Receives the number of finished rows and the total."""


@dataclass(frozen=True, eq=False)
class Block:
    """Rows with their columns; ``keys`` or ``paths`` are None if a file does not contain them."""

    features: NDArray[np.floating[Any]]
    keys: Keys | None
    paths: tuple[str, ...] | None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)


class FeatureReader(Protocol):
    """An open file of features; ``spec`` is None if it does not say what made them."""

    spec: SpaceSpec | None
    width: int
    dtype: FeatureType
    rows: int
    notes: list[str]

    def blocks(self) -> Iterator[Block]:
        """Yields all rows once, in blocks."""


class RowsToExport:
    """The rows of one space to export: those of a table, or all."""

    def __init__(self, space: Space, table: Table | None, files: Files, progress: Progress | None) -> None:
        self.spec = space.spec
        self._space, self._files = space, files
        self._table = table
        self._keys = space.keys() if table is None else table.keys
        self._progress = progress or (lambda _done, _all: None)
        self._done = 0

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self._keys)

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each column other than key and path."""
        return {} if self._table is None else {name: kind_of(values) for name, values in self._table.columns.items()}

    @property
    def table(self) -> Table:
        """The rows without their features; they have no columns unless a dataset was given."""
        if self._table is None:
            with closing(_PathIndex(self._files)) as index:
                self._table = Table(self._keys, tuple(index.paths(self._keys)))
        return self._table

    def blocks(self, places: NDArray[np.int64] | None = None) -> Iterator[Block]:
        """Yields the rows, or those at ``places`` of the table, in order, with float32 features."""
        size = block_rows(self.spec.width)
        if self._table is None:
            with closing(_PathIndex(self._files)) as index:
                for start in range(0, self.rows, size):
                    keys = self._keys[start : start + size]
                    yield self._block(Table(keys, tuple(index.paths(keys))))
            return
        every = np.arange(self.rows) if places is None else places
        for start in range(0, len(every), size):
            yield self._block(self._table.select(every[start : start + size]))

    def _block(self, table: Table) -> Block:
        block = Block(self._space.gather(table.keys), table.keys, table.paths, table.columns)
        self._done += len(block)
        self._progress(self._done, self.rows)
        return block


def block_rows(width: int) -> int:
    """Returns the number of rows in a block for features of this width."""
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * width)))


def feature_type(dtype: np.dtype[Any], shape: tuple[int, ...], where: str) -> FeatureType:
    """Returns the dtype in which a space stores such features; raises InputError if they are not features."""
    if len(shape) != 2 or dtype.kind != "f" or not shape[1]:
        raise InputError(f"{where} contains {dtype} of shape {shape}", expected="numbers of shape (rows, width)")
    return "float16" if dtype.itemsize == 2 else "float32"


class _PathIndex:
    """Finds the first path of a key, in a temporary SQLite file to bound memory."""

    def __init__(self, files: Files) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("CREATE TABLE paths (key BLOB PRIMARY KEY, path ANY) STRICT, WITHOUT ROWID")
        self._connection.execute("BEGIN")
        self._connection.executemany(
            "INSERT OR IGNORE INTO paths VALUES (?, ?)", ((row.key, stored_path(row.path)) for row in files.all())
        )
        self._connection.execute("COMMIT")

    def paths(self, keys: Keys) -> Iterator[str]:
        """Yields the path of each key, or "" if no file with it was recorded."""
        for key in keys:
            row = self._connection.execute("SELECT path FROM paths WHERE key = ?", (key.tobytes(),)).fetchone()
            yield loaded_path(row[0]) if row else ""

    def close(self) -> None:
        self._connection.close()
