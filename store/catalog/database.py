"""One connection to the catalog's SQLite file, with the best journal mode that its file system allows."""

import logging
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock

from penult.errors import MissingFileError, StoreError, StoreFormatError, StoreWriteError
from penult.store.catalog import schema
from penult.store.catalog.sqlite_errors import damaged, is_busy, is_unwritable, reason_of, translated
from penult.store.files.local import LocalPath, may_be_shared, temporary_name

BUSY_SECONDS = 30.0
"""How long a writer waits for another process's transaction."""

_log = logging.getLogger(__name__)


class Database:
    """An open catalog file. Threads may share it: a lock gives each transaction exclusive use."""

    def __init__(self, path: Path, *, readonly: bool) -> None:
        if sqlite3.sqlite_version_info < (3, 37):
            raise StoreError(
                f"This Python contains SQLite {sqlite3.sqlite_version}",
                expected="3.37 or newer",
                remedy="install a newer Python",
            )
        self.path = path
        self.notes: list[str] = []
        self.readonly = readonly
        self._lock = RLock()
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self.on_change: Callable[[bool], object] = lambda may_wait: None
        with translated(path, BUSY_SECONDS):
            self._connection = self._open()
        try:
            with translated(path, BUSY_SECONDS):
                schema.check(self._connection, path)
                if schema.version_of(self._connection) < len(schema.MIGRATIONS):
                    self._migrate()
        except BaseException:
            self.close()
            raise

    @property
    def journal_mode(self) -> str:
        """SQLite's journal mode: ``wal``, or another mode on file systems without it."""
        return str(self._connection.execute("PRAGMA journal_mode").fetchone()[0])

    @contextmanager
    def writing(self, *, may_wait: bool = False) -> Iterator[sqlite3.Connection]:
        """Yields the connection inside a durable transaction, which any exception rolls back.

        Then it calls ``on_change``; ``may_wait`` says that the change can be found again and may reach others later.
        """
        if self.readonly:
            raise StoreWriteError(
                "; ".join(self.notes) or f"{self.path} is open for reading only",
                expected="a writable catalog",
                remedy="free space if the disk is full, ask its owner for write permission, or copy the store",
            )
        with self._lock, translated(self.path, BUSY_SECONDS):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
        self.on_change(may_wait)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yields the connection inside a read transaction, which sees the state at one moment."""
        with self._lock, translated(self.path, BUSY_SECONDS):
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                with suppress(sqlite3.Error):
                    self._connection.execute("COMMIT")

    @contextmanager
    def attached(self, others: Mapping[str, Path]) -> Iterator[sqlite3.Connection]:
        """Yields the connection inside a transaction with other files attached; it does not call ``on_change``."""
        with self._lock, translated(self.path, BUSY_SECONDS):
            for name, path in others.items():
                self._connection.execute(f"ATTACH DATABASE ? AS {name}", (str(path),))
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
            finally:
                for name in others:
                    self._connection.execute(f"DETACH DATABASE {name}")

    def replace_by(self, source: sqlite3.Connection) -> None:
        """Replaces the content of this file with that of another database."""
        with self._lock, translated(self.path, BUSY_SECONDS):
            source.backup(self._connection)

    def close(self) -> None:
        """Closes the file; SQLite merges its log into it."""
        with self._lock:
            self._connection.close()
            if self._copy is not None:
                self._copy.cleanup()

    def __del__(self) -> None:
        # Newer Python versions warn about a connection that the garbage collector closes.
        with suppress(AttributeError, sqlite3.Error):
            self.close()

    def _open(self) -> sqlite3.Connection:
        if not self.path.exists():
            if self.readonly:
                raise MissingFileError(f"{self.path} does not exist", remedy="run extract, which makes a catalog")
            if self.path.parent.is_dir() and not os.access(self.path.parent, os.W_OK):
                self._fall_back("it does not exist, and its folder is read-only")
                return _empty()
            _create(self.path)
        if not self.path.is_file():
            raise StoreFormatError(f"{self.path} is not a file", expected="a catalog")
        if self.path.stat().st_size == 0:
            raise damaged(self.path, "it is empty")
        if not self.readonly and not self._may_be_written():
            self._fall_back("the file or its folder is read-only")
        if not self.readonly:
            try:
                return self._open_writable()
            except sqlite3.OperationalError as error:
                if not is_unwritable(error):
                    raise
                self._fall_back(reason_of(self.path, error))
        return self._open_readonly()

    def _open_writable(self) -> sqlite3.Connection:
        # A write-ahead log needs shared memory, so writers on two machines would not see each other's locks.
        wanted = "delete" if may_be_shared(self.path.parent) else "wal"
        connection = connect(self.path, "mode=rw")
        try:
            mode = _ask_for_journal(connection, wanted)
            # Every commit is flushed to disk: a saved dataset survives a power loss.
            connection.execute("PRAGMA synchronous = EXTRA")
        except BaseException:
            connection.close()
            raise
        if mode != wanted:
            self._note(
                f"the file system of {self.path} allows no write-ahead log: readers and writers wait for each other"
            )
        return connection

    def _open_readonly(self) -> sqlite3.Connection:
        log = self.path.with_name(self.path.name + "-wal")
        log_is_empty = not log.exists() or log.stat().st_size == 0
        # With write permission, SQLite removes its log and its shared memory at the end. On a read-only medium it
        # cannot make the shared memory; without a log it needs none.
        ways = ["mode=rw"] if self._may_be_written() else ["mode=ro"]
        for way in [*ways, "mode=ro&immutable=1"] if log_is_empty else ways:
            try:
                connection = connect(self.path, way)
            except sqlite3.OperationalError:
                continue
            connection.execute("PRAGMA query_only = ON")
            return connection
        return self._open_copy()

    def _open_copy(self) -> sqlite3.Connection:
        self._copy = tempfile.TemporaryDirectory(prefix="penult-catalog-")
        for suffix in ("", "-wal"):
            source = self.path.with_name(self.path.name + suffix)
            if source.exists():
                shutil.copyfile(source, Path(self._copy.name) / source.name)
        self._note(f"{self.path} is read from a temporary copy")
        return connect(Path(self._copy.name) / self.path.name, "mode=rw")

    def _may_be_written(self) -> bool:
        return os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)

    def _migrate(self) -> None:
        if self.readonly and self._copy is None:
            self._connection.close()
            self._connection = self._open_copy()
        schema.migrate(self._connection)

    def _fall_back(self, reason: str) -> None:
        self.readonly = True
        self._note(f"{self.path} is open for reading only: {reason}")

    def _note(self, text: str) -> None:
        self.notes.append(text)
        _log.warning(text)


def connect(path: Path, options: str) -> sqlite3.Connection:
    """Opens an SQLite file with the settings of a catalog, and checks that it is readable."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    # A damaged text must fail its row's checksum, not the decoding in the driver.
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "cache_size = -65536", "mmap_size = 0"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _ask_for_journal(connection: sqlite3.Connection, mode: str) -> str:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return str(connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0])
        except sqlite3.OperationalError as error:
            # The busy timeout does not apply to this statement when two processes open a new file at once.
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _empty() -> sqlite3.Connection:
    """Returns an empty catalog in memory, for a store without a catalog on a read-only medium."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    schema.migrate(connection)
    return connection


def _create(path: Path) -> None:
    """Makes an empty catalog under a temporary name and then publishes it, so that nobody opens an incomplete one."""
    draft = temporary_name(path.parent, ".sqlite.tmp")
    try:
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            schema.migrate(connection)
        finally:
            connection.close()
        LocalPath(path).publish_if_absent(draft)
    finally:
        draft.unlink(missing_ok=True)
