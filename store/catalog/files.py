"""The files that were read before, so that a later job skips unchanged images without opening them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from penult.store.catalog.database import Database
from penult.store.catalog.rows import BLOCK, file_seal, loaded_path, rows_at, scan, stored_path, text_bytes
from penult.store.keys import key_array
from penult.store.tables.table import Table


class FileStat(NamedTuple):
    """The path, size and change time of a file; a tuple, because a job makes one for every file."""

    path: str
    size: int
    mtime_ns: int


class Stat(Protocol):
    """Any object with the fields of a FileStat."""

    @property
    def path(self) -> str:
        """The path under which the file is recorded."""

    @property
    def size(self) -> int:
        """The size in bytes."""

    @property
    def mtime_ns(self) -> int:
        """The time of the last change, in nanoseconds."""


class SeenFile(NamedTuple):
    """A file that was read, and the key of its content."""

    path: str
    size: int
    mtime_ns: int
    key: bytes


class Files:
    """The table of seen files."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __len__(self) -> int:
        with self._database.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM files").fetchone()[0])

    def known(self, stats: Sequence[Stat]) -> list[bytes | None]:
        """Returns the key of each file whose size and change time are the recorded ones, else None.

        It misses a change that keeps both; only hashing the file again would find it.
        """
        keys: list[bytes | None] = []
        for start in range(0, len(stats), BLOCK):
            block = stats[start : start + BLOCK]
            found: list[bytes | None] = [None] * len(block)
            paths = [stat.path for stat in block]
            with self._database.reading() as connection:
                for place, size, mtime_ns, key, seal in rows_at(
                    connection, "files", "size, mtime_ns, key, seal", paths
                ):
                    stat = block[place]
                    is_unchanged = stat.size == size and stat.mtime_ns == mtime_ns
                    if is_unchanged and seal == file_seal(stat.path, size, mtime_ns, key):
                        found[place] = key
            keys += found
        return keys

    def record(self, rows: Iterable[SeenFile]) -> None:
        """Records files and their keys; replaces earlier records of their paths."""
        remaining = iter(rows)
        while block := list(islice(remaining, BLOCK)):
            # In index order, so that each page of the index is written once.
            block.sort(key=lambda row: text_bytes(row.path))
            stored = [(stored_path(row.path), row.size, row.mtime_ns, row.key, file_seal(*row)) for row in block]
            with self._database.writing(may_wait=True) as connection:
                connection.executemany(
                    "INSERT INTO files VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET"
                    " size = excluded.size, mtime_ns = excluded.mtime_ns, key = excluded.key, seal = excluded.seal",
                    stored,
                )

    def forget(self, paths: Iterable[str]) -> None:
        """Removes the records of ``paths``, so that the next job reads these files again."""
        with self._database.writing(may_wait=True) as connection:
            connection.executemany("DELETE FROM files WHERE path = ?", ((stored_path(path),) for path in paths))

    def table(self, folder: str | None = None) -> Table:
        """Returns the recorded files, or those below ``folder``, as a table of keys and paths."""
        start = None if folder is None else folder.rstrip("/\\") + os.sep
        rows = [row for row in self.all() if start is None or row.path.startswith(start)]
        return Table(key_array(row.key for row in rows), tuple(row.path for row in rows))

    def all(self) -> Iterator[SeenFile]:
        """Yields the recorded files in path order; skips a damaged row, as if its file were new."""
        for stored, size, mtime_ns, key, seal in scan(self._database, "files", "size, mtime_ns, key, seal"):
            row = SeenFile(loaded_path(stored), size, mtime_ns, key)
            if seal == file_seal(*row):
                yield row
