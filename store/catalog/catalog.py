"""The catalog: one SQLite file beside the features, holding all that is known of images except their features."""

from pathlib import Path
from types import TracebackType
from typing import Self

from penult.store.catalog.database import Database
from penult.store.catalog.datasets import Datasets
from penult.store.catalog.files import Files
from penult.store.catalog.heads import Heads
from penult.store.catalog.jobs import Jobs
from penult.store.catalog.ledger import Ledger
from penult.store.catalog.rescue import Rescue, find_damage, rescue


class Catalog:
    """The tables of one catalog; made at the first opening, and safe to share between threads and processes.

    Where the file cannot be written it opens for reading, ``readonly`` is true and ``notes`` says why.
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
        """The open file, for what copies it as a whole."""
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
        """How the file is journaled: ``wal``, or what the file system allows."""
        return self._database.journal_mode

    @property
    def notes(self) -> tuple[str, ...]:
        """What about the opening is worth telling: a file system without WAL, a folder that may not be written."""
        return tuple(self._database.notes)

    def find_damage(self) -> list[str]:
        """Reads everything and returns a sentence for each thing that is not what was written; none is a sound file."""
        return find_damage(self._database)

    @staticmethod
    def rescue(path: Path) -> Rescue:
        """Moves the damaged file at ``path`` aside, and makes a new catalog of what in it passes its checks.

        Features are not touched. What is lost comes back by running extract and importing the labels again.
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
