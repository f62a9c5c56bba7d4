"""Records which job works on which images, so that several jobs on one store share the work.

The claims are stored in a small SQLite file in the store. They only save work: the store is correct with any claims or
none. So nothing is flushed, the file may be deleted at any time, and a damaged file is replaced.

A job claims images before it opens them and releases them when they are committed. Each job increments a counter while
it runs. A job whose counter stops is considered dead, and its claims are free. No clocks of two machines are compared.
"""

import hashlib
import os
import platform
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

BEAT_SECONDS = 2.0
SILENT_SECONDS = 20.0
"""How long the counter of a job on another machine may stop before the job is considered dead."""

WAIT_SECONDS = 10.0

Result = TypeVar("Result")

_TABLES = (
    "CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, host TEXT, pid INTEGER, beat INTEGER)",
    "CREATE TABLE IF NOT EXISTS claims (image BLOB PRIMARY KEY, job INTEGER) WITHOUT ROWID",
)


class Claims:
    """The claims of one job, as a context manager. ``scope`` names the spaces that the images are claimed for.

    If the file cannot be used, the job gets every image, and ``note`` gives the reason.
    """

    def __init__(self, folder: Path, scope: str) -> None:
        self._path = folder / "claims.sqlite"
        self._scope = scope.encode()
        self._turn = threading.Lock()
        self._is_over = threading.Event()
        self._seen: dict[int, tuple[int, float]] = {}
        self._job = secrets.randbits(62)  # random, so that ids stay unique when the file is replaced
        self.has_company = False
        self.note = ""

    def __enter__(self) -> Self:
        self._change(self._show_life, None)
        self._pulse = threading.Thread(target=self._beat, name="penult-claims", daemon=True)
        self._pulse.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._pulse.join()
        self._change(lambda file: _forget_job(file, self._job), None)

    def take(self, paths: Sequence[str]) -> list[bool]:
        """Claims the images that no other running job has; returns for each whether this job has it now."""
        images = [self._image(path) for path in paths]

        def claim(file: sqlite3.Connection) -> list[bool]:
            others = file.execute("SELECT id, host, pid, beat FROM jobs WHERE id <> ?", (self._job,)).fetchall()
            dead = [job for job, *signs in others if not self._lives(job, *signs)]
            for job in dead:
                _forget_job(file, job)
            self.has_company = len(others) > len(dead)
            rows = ((image, self._job) for image in images)
            file.executemany("INSERT INTO claims VALUES (?, ?) ON CONFLICT DO NOTHING", rows)
            find = "SELECT job FROM claims WHERE image = ?"
            return [file.execute(find, (image,)).fetchone()[0] == self._job for image in images]

        return self._change(claim, [True] * len(paths))

    def release(self, paths: Iterable[str]) -> None:
        """Releases the claims on images that are committed or recorded in the ledger."""
        rows = [(self._image(path), self._job) for path in paths]
        if rows:
            self._change(lambda file: file.executemany("DELETE FROM claims WHERE image = ? AND job = ?", rows), None)

    def _image(self, path: str) -> bytes:
        named = path.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(self._scope + b"\0" + named, digest_size=16).digest()

    def _lives(self, job: int, host: str, pid: int, beat: int) -> bool:
        if host == _host() and not _is_running(pid):
            return False
        now = time.monotonic()
        before, since = self._seen.get(job, (-1, now))
        if beat != before:
            self._seen[job] = beat, now
            return True
        return now - since < SILENT_SECONDS

    def _beat(self) -> None:
        while not self._is_over.wait(BEAT_SECONDS):
            self._change(self._show_life, None)

    def _show_life(self, file: sqlite3.Connection) -> None:
        # Another job may have removed this row, because this machine was suspended.
        file.execute("INSERT OR IGNORE INTO jobs VALUES (?, ?, ?, 0)", (self._job, _host(), os.getpid()))
        file.execute("UPDATE jobs SET beat = beat + 1 WHERE id = ?", (self._job,))

    def _change(self, change: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        """Runs ``change`` in one transaction; returns ``otherwise`` if the file cannot be used."""
        with self._turn:
            try:
                with closing(sqlite3.connect(self._path, timeout=WAIT_SECONDS, isolation_level=None)) as file:
                    file.execute("PRAGMA synchronous = OFF")
                    file.execute("BEGIN IMMEDIATE")
                    for table in _TABLES:
                        file.execute(table)
                    result = change(file)
                    file.execute("COMMIT")
                    return result
            except sqlite3.OperationalError as error:
                self.note = f"work is not shared with other jobs on this store: {error}"
            except sqlite3.DatabaseError:
                with suppress(OSError):  # another job may have removed the damaged file just now
                    self._path.unlink()
                self.note = "the claims file of this store was damaged and has been replaced"
            return otherwise


def _forget_job(file: sqlite3.Connection, job: int) -> None:
    file.execute("DELETE FROM claims WHERE job = ?", (job,))
    file.execute("DELETE FROM jobs WHERE id = ?", (job,))


def _host() -> str:
    """Returns the machine and, on Linux, the PID namespace: a process id is unique within these."""
    try:
        space = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return platform.node()
    return f"{platform.node()} {space}"


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
