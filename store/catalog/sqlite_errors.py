"""Translates SQLite's errors into penult's: damaged file, busy file, or file that cannot be written."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penult.errors import StoreDamagedError, StoreWriteError

__all__ = ["damaged", "is_busy", "is_unwritable", "reason_of", "translated"]

ROOM_BYTES = 1 << 20
"""A disk with less free space than this counts as full."""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_IOERR_READ}
_UNWRITABLE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
}


@contextmanager
def translated(path: Path, waited_seconds: float) -> Iterator[None]:
    """Turns SQLite's errors into penult's; ``waited_seconds`` is the busy timeout for the message."""
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite's own message contains a damaged name
        raise damaged(path, "a name in it is not valid text") from error
    except sqlite3.Error as error:
        if _DAMAGED & {_code(error), _code(error) & 0xFF}:
            raise damaged(path, str(error)) from error
        if is_busy(error):
            raise StoreWriteError(
                f"Another process has locked {path} for more than {waited_seconds:g} s",
                remedy="wait for it, or end it",
            ) from error
        if is_unwritable(error):
            raise StoreWriteError(
                f"{path} cannot be written: {reason_of(path, error)}",
                remedy="free some space, or check the permissions",
            ) from error
        raise


def damaged(path: Path, what: str) -> StoreDamagedError:
    """Returns the error for a damaged catalog."""
    return StoreDamagedError(
        f"The catalog {path} is damaged: {what}",
        expected="an undamaged SQLite file",
        remedy="the features are safe: move the catalog aside, run extract again, and import the datasets again "
        "from their exports or label files",
    )


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process or thread has locked the file."""
    return _code(error) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def is_unwritable(error: sqlite3.Error) -> bool:
    """Whether the file or its disk is not writable."""
    return _code(error) & 0xFF in _UNWRITABLE


def reason_of(path: Path, error: sqlite3.Error) -> str:
    """Returns why a file cannot be written.

    SQLite reports "disk I/O error" for a full disk if its shared memory did not fit.
    """
    is_full = path.parent.is_dir() and shutil.disk_usage(path.parent).free < ROOM_BYTES
    return "no space is left on its disk" if is_full else str(error)


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", None) or 0)
