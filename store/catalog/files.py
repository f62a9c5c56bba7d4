"""The files seen, so that a job over a million unchanged images neither opens nor hashes one of them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from penult.store.catalog.database import Database
from penult.store.catalog.paths import BLOCK, loaded_path, rows_at, scan, stored_path
from penult.store.catalog.seals import file_seal, text_bytes
from penult.store.keys import key_array
from penult.store.tables.table import Table


class FileStat(NamedTuple):
    """What the file system says of a file without opening it; a tuple, because a job makes one for every file."""

    path: str
    size: int
    mtime_ns: int


class Stat(Protocol):
    """What bears the three that a FileStat bears."""

    @property
    def path(self) -> str:
        """The file's name, as it is recorded."""

    @property
    def size(self) -> int:
        """Its bytes."""

    @property
    def mtime_ns(self) -> int:
        """When it was changed."""


class SeenFile(NamedTuple):
    """A file that was read once, and the key of what it held."""

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
        """Returns the key of each file that has the size and time of change it had when recorded, else None.

        A change that leaves both as they were goes unseen; only hashing the file again would notice it.
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
        """Remembers files and their keys, in place of what was known of these paths."""
        remaining = iter(rows)
        while block := list(islice(remaining, BLOCK)):
            # In the order of the index, so that each of its pages is written once.
            block.sort(key=lambda row: text_bytes(row.path))
            stored = [(stored_path(row.path), row.size, row.mtime_ns, row.key, file_seal(*row)) for row in block]
            with self._database.writing(may_wait=True) as connection:
                connection.executemany(
                    "INSERT INTO files VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET"
                    " size = excluded.size, mtime_ns = excluded.mtime_ns, key = excluded.key, seal = excluded.seal",
                    stored,
                )

    def forget(self, paths: Iterable[str]) -> None:
        """Drops what is known of ``paths``, so that the next job reads these files again."""
        with self._database.writing(may_wait=True) as connection:
            connection.executemany("DELETE FROM files WHERE path = ?", ((stored_path(path),) for path in paths))

    def table(self, folder: str | None = None) -> Table:
        """Returns the seen files, or those below ``folder``, as a table without further columns."""
        start = None if folder is None else folder.rstrip("/\\") + os.sep
        rows = [row for row in self.all() if start is None or row.path.startswith(start)]
        return Table(key_array(row.key for row in rows), tuple(row.path for row in rows))

    def all(self) -> Iterator[SeenFile]:
        """Yields the seen files in the order of their paths; a damaged row is left out, as if its file were new."""
        for stored, size, mtime_ns, key, seal in scan(self._database, "files", "size, mtime_ns, key, seal"):
            row = SeenFile(loaded_path(stored), size, mtime_ns, key)
            if seal == file_seal(*row):
                yield row
