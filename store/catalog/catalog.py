"""The catalog: one SQLite file next to the features, with everything about images except their features."""

from pathlib import Path
from types import TracebackType
from typing import Self

from penult.store.catalog.database import Database
from penult.store.catalog.datasets import Datasets
from penult.store.catalog.files import Files
from penult.store.catalog.ledger import Ledger
from penult.store.catalog.records import Heads, Jobs
from penult.store.catalog.rescue import Rescue, find_damage, rescue


class Catalog:
    """The tables of one catalog, which the first opening makes. Threads and processes may share it.

    If the file is not writable, it opens for reading only: ``readonly`` is true and ``notes`` gives the reason.
    """

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self._database = Database(path, readonly=readonly)
        self.files = Files(self._database)
        self.ledger = Ledger(self._database)
        self.datasets = Datasets(self._database)
        self.jobs = Jobs(self._database)
        self.heads = Heads(self._database)

    @property
    def database(self) -> Database:
        """The open database, for copying and merging it as a whole."""
        return self._database

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self._database.path

    @property
    def readonly(self) -> bool:
        """Whether the catalog is open for reading only."""
        return self._database.readonly

    @property
    def journal_mode(self) -> str:
        """SQLite's journal mode: ``wal``, or another mode on file systems without it."""
        return self._database.journal_mode

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on limits found at opening, such as a file system without WAL or a read-only folder."""
        return tuple(self._database.notes)

    def find_damage(self) -> list[str]:
        """Reads the whole file and returns one sentence for each damage; an undamaged file has none."""
        return find_damage(self._database)

    @staticmethod
    def rescue(path: Path) -> Rescue:
        """Moves the damaged file at ``path`` aside, and makes a new catalog of its undamaged rows.

        Features stay unchanged. To restore lost rows, run extract and import the labels again.
        """
        return rescue(path)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
