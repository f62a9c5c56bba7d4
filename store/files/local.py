"""A store's files on a local disk. Only this module changes them; every step is durable when it returns, or raises.

A file is written under a temporary name that no reader opens. It gets its real name once all of its bytes are on disk.
"""

import errno
import os
import re
import shutil
import tempfile
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PosixPath
from typing import Self
from uuid import uuid4

from penult.errors import StoreWriteError

__all__ = ["LocalPath", "Part", "may_be_shared", "open_plain", "temporary_folder", "temporary_name", "write_new"]

REMEDIES = {
    errno.ENOSPC: "free some space, then run the same command again: committed rows are safe",
    errno.EDQUOT: "free some of your quota, then run the same command again: committed rows are safe",
    errno.EROFS: "copy the store to a writable disk, or use it for reading only",
    errno.EACCES: "ask the owner of the folder for write permission, or use the store for reading only",
    errno.EPERM: "ask the owner of the folder for write permission, or use the store for reading only",
    errno.EIO: "check the disk (the system log names the fault); rows committed before are unchanged",
}

FLUSH_BYTES = 1 << 23
PARTS_WAITING = 4

MOUNTS = Path("/proc/self/mountinfo")

SHARED = {
    *("9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2"),
    *("panfs", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "wekafs"),
}
"""File systems shared over a network, or between a host and its guests. Any FUSE file system may be shared too."""

Part = tuple[int, bytes | memoryview]
"""An offset in a file, and the bytes to write there."""


class LocalPath(PosixPath):
    """A path on a local disk with the durable operations of ``StoragePath``."""

    def names(self) -> list[str]:
        try:
            with os.scandir(self) as entries:
                return [entry.name for entry in entries]
        except FileNotFoundError:
            return []

    def size(self) -> int:
        return self.lstat().st_size

    def size_and_change(self) -> tuple[int, float]:
        """Returns the size of the file and the time of its last change, which a rename updates."""
        status = self.lstat()
        return status.st_size, status.st_ctime

    def open_file(self) -> "OpenLocalFile":
        return OpenLocalFile(open_plain(self))

    def read_start(self, most_bytes: int) -> bytes:
        with os.fdopen(open_plain(self), "rb") as file:
            return file.read(most_bytes)

    def local_copy(self, cache: Path) -> Path:
        """Returns this path, because the file is local already."""
        return self

    def make_folder(self) -> None:
        """Makes this folder and its missing parents; each is durable before anything is put into it.

        The parent is flushed even if the folder exists, because the process that made it may not have flushed it yet.
        """
        if not self.parent.is_dir():
            self.parent.make_folder()
        with _writing_to(self), suppress(FileExistsError):
            self.mkdir()
        self.parent.sync_folder()

    def sync_folder(self) -> None:
        with _writing_to(self):
            descriptor = os.open(self, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def publish(self, temporary: Path) -> None:
        """Renames a finished file to this path, in place of any file there. The rename is the commit."""
        with _writing_to(self):
            try:
                temporary.rename(self)
            except OSError:
                with suppress(OSError):
                    temporary.unlink()
                raise
        self.parent.sync_folder()

    def publish_if_absent(self, temporary: Path) -> bool:
        """Gives a finished file this name unless it is taken; returns whether it did."""
        with _writing_to(self):
            try:
                os.link(temporary, self)
            except FileExistsError:
                return False
            finally:
                with suppress(OSError):
                    temporary.unlink()
        self.parent.sync_folder()
        return True

    def write_if_absent(self, data: bytes) -> bool:
        temporary = temporary_name(self.parent, ".tmp")
        write_new(temporary, [(0, data)])
        return self.publish_if_absent(temporary)

    def move_to(self, target: Self) -> bool:
        with _writing_to(target):
            try:
                self.rename(target)
            except FileNotFoundError:
                return False
        return True

    def remove(self) -> bool:
        with _writing_to(self):
            try:
                self.unlink()
            except FileNotFoundError:
                return False
        return True


class OpenLocalFile:
    """An open file on a local disk."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size_bytes = os.fstat(descriptor).st_size

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()

    def drop_cache(self) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def read_into(self, view: memoryview, offset: int) -> int:
        return os.preadv(self._descriptor, [view], offset)

    def read_many(self, size: int, offsets: Sequence[int]) -> list[bytes]:
        descriptor = self._descriptor
        return [os.pread(descriptor, size, offset) for offset in offsets]


def open_plain(path: Path) -> int:
    """Opens a file for reading and returns its descriptor; a symbolic link raises ``OSError``."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def write_new(path: Path, parts: Iterable[Part]) -> None:
    """Writes a new file and returns once its bytes are on disk.

    A file that fails is removed and never flushed again: a second fsync can succeed although pages were lost.
    """
    with _writing_to(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        try:
            _write_and_flush(descriptor, path, parts)
        finally:
            with _writing_to(path):
                os.close(descriptor)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def temporary_name(folder: Path, suffix: str) -> LocalPath:
    """Returns a path in ``folder`` that nobody else uses."""
    return LocalPath(folder, f"{uuid4().hex}{suffix}")


def temporary_folder(owner: object) -> LocalPath:
    """Makes a folder that is removed together with its owner."""
    folder = tempfile.mkdtemp(prefix="penult-")
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return LocalPath(folder)


def may_be_shared(folder: Path) -> bool:
    """Returns whether other machines may have mounted the folder too; True if the system does not say."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # only Linux has this table
        return True
    real, kinds = folder.resolve(), dict(map(_mount, lines))
    kind = next((kinds[place] for place in (real, *real.parents) if place in kinds), "")
    return kind in SHARED or kind.partition(".")[0] in {"fuse", ""}


def _mount(line: str) -> tuple[Path, str]:
    """Returns a mount point and its kind; in a dict of all lines, a later mount hides an earlier one."""
    words, _, rest = line.partition(" - ")
    place = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), words.split()[4])
    return Path(place), rest.split()[0]


@contextmanager
def _writing_to(path: Path) -> Iterator[None]:
    """Turns an ``OSError`` into a ``StoreWriteError`` that names the file and a remedy."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StoreWriteError(
            f"{path} cannot be written: {reason}",
            remedy=REMEDIES.get(error.errno or 0, "fix the cause; running the same command again is safe"),
        ) from error


def _write_and_flush(descriptor: int, path: Path, parts: Iterable[Part]) -> None:
    # A second thread writes and flushes, so that the disk works while the next parts are prepared.
    waiting: deque[Future[None]] = deque()
    unflushed = 0
    with ThreadPoolExecutor(1) as writer:
        for offset, data in parts:
            waiting.append(writer.submit(_write_all, descriptor, path, memoryview(data).cast("B"), offset))
            unflushed += memoryview(data).nbytes
            if unflushed >= FLUSH_BYTES:
                waiting.append(writer.submit(_flush, descriptor, path))
                unflushed = 0
            while len(waiting) > PARTS_WAITING:
                waiting.popleft().result()
        waiting.append(writer.submit(_flush, descriptor, path))
        for step in waiting:
            step.result()


def _write_all(descriptor: int, path: Path, data: memoryview, offset: int) -> None:
    with _writing_to(path):
        while data:
            count = os.pwrite(descriptor, data, offset)
            data, offset = data[count:], offset + count


def _flush(descriptor: int, path: Path) -> None:
    with _writing_to(path):
        os.fsync(descriptor)
