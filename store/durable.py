"""The only place that changes files of a store: each step is durable when it returns, or it raises.

A file is made under a name that no reader looks at, and gets its real name once every byte is safe.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from penult.errors import StoreWriteError

REMEDIES = {
    errno.ENOSPC: "free some space, or run `penult store compact` and `penult store gc`; then run the job again",
    errno.EDQUOT: "free some of your quota; then run the job again",
    errno.EROFS: "copy the store to a disk that can be written, or use it for reading only",
    errno.EACCES: "ask the owner of the folder for the right to write, or use the store for reading only",
    errno.EPERM: "ask the owner of the folder for the right to write, or use the store for reading only",
    errno.EIO: "check the disk (its system log names the fault); what was committed before is untouched",
}


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turns an operating system's refusal into the error that says what was being written and what helps."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StoreWriteError(
            f"{path} cannot be written: {reason}",
            remedy=REMEDIES.get(error.errno or 0, "see the reason; adding the same rows again is harmless"),
        ) from error


def write_new(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Writes a file that did not exist, and returns when its bytes are on the disk.

    After a failure the file is removed and never flushed again: a second fsync could succeed on lost pages.
    """
    with writing_to(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            try:
                for part in parts:
                    _write_all(descriptor, memoryview(part).cast("B"))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    with writing_to(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def publish(temporary: Path, final: Path) -> None:
    """Gives a finished file its real name, in place of any file of that name; the rename is the commit."""
    with writing_to(final):
        try:
            temporary.rename(final)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise
    sync_folder(final.parent)


def publish_if_absent(temporary: Path, final: Path) -> bool:
    """Gives a finished file its real name unless a file has it already, and says whether it did."""
    with writing_to(final):
        try:
            os.link(temporary, final)
        except FileExistsError:
            return False
        finally:
            with suppress(OSError):
                temporary.unlink()
    sync_folder(final.parent)
    return True


def make_folder(folder: Path) -> None:
    """Makes a folder and the missing ones above it, each durable before anything is put into it."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    with writing_to(folder), suppress(FileExistsError):
        folder.mkdir()
    sync_folder(folder.parent)


def temporary_name(folder: Path, suffix: str) -> Path:
    """Returns a path in ``folder`` that nobody else uses."""
    return folder / f"{uuid4().hex}{suffix}"
