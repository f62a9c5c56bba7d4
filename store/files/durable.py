"""The only place that changes files of a store: each step is durable when it returns, or it raises.

A file is made under a name that no reader looks at, and gets its real name once every byte is safe.
"""

import errno
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from penult.errors import StoreWriteError
from penult.store.files.places import ObjectPath, Place

REMEDIES = {
    errno.ENOSPC: "free some space, then run the same again: nothing that was committed is lost",
    errno.EDQUOT: "free some of your quota, then run the same again: nothing that was committed is lost",
    errno.EROFS: "copy the store to a disk that can be written, or use it for reading only",
    errno.EACCES: "ask the owner of the folder for the right to write, or use the store for reading only",
    errno.EPERM: "ask the owner of the folder for the right to write, or use the store for reading only",
    errno.EIO: "check the disk (the system log names the fault); what was committed before is untouched",
}

FLUSH_BYTES = 1 << 23
PARTS_WAITING = 4

Part = tuple[int, bytes | memoryview]
"""Bytes, and the place in the file where they go."""


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turns an operating system's refusal into the error that says what was being written and what helps."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StoreWriteError(
            f"{path} cannot be written: {reason}",
            remedy=REMEDIES.get(error.errno or 0, "see the reason; running the same again is harmless"),
        ) from error


def write_new(path: Path, parts: Iterable[Part]) -> None:
    """Writes a file that did not exist, and returns when its bytes are on the disk.

    After a failure the file is removed and never flushed again: a second fsync could succeed though pages were lost.
    """
    with writing_to(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        try:
            _write_and_flush(descriptor, path, parts)
        finally:
            with writing_to(path):
                os.close(descriptor)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _write_and_flush(descriptor: int, path: Path, parts: Iterable[Part]) -> None:
    # A second thread writes, and flushes now and then, so that the disk is at work while the next parts are made.
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
    with writing_to(path):
        while data:
            count = os.pwrite(descriptor, data, offset)
            data, offset = data[count:], offset + count


def _flush(descriptor: int, path: Path) -> None:
    with writing_to(path):
        os.fsync(descriptor)


def sync_folder(folder: Place) -> None:
    """Makes the names in a folder durable."""
    if isinstance(folder, ObjectPath):  # whose names are, once they are there
        return
    with writing_to(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def publish(temporary: Path, final: Place) -> None:
    """Gives a finished file its real name, in place of any file of that name; the rename is the commit.

    To object storage it is put whole, and the end of that is the commit.
    """
    if isinstance(final, ObjectPath):
        try:
            final.bucket.put(final.key, temporary)
        finally:
            temporary.unlink()
        return
    with writing_to(final):
        try:
            temporary.rename(final)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise
    sync_folder(final.parent)


def publish_if_absent(temporary: Path, final: Place) -> bool:
    """Gives a finished file its real name unless a file has it already, and says whether it did."""
    if isinstance(final, ObjectPath):
        try:
            return final.bucket.put_if_absent(final.key, temporary.read_bytes())
        finally:
            temporary.unlink()
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


def write_if_absent(path: Place, data: bytes) -> bool:
    """Writes a small file unless there is one of its name already, and says whether it did."""
    if isinstance(path, ObjectPath):
        return path.bucket.put_if_absent(path.key, data)
    temporary = temporary_name(path.parent, ".tmp")
    write_new(temporary, [(0, data)])
    return publish_if_absent(temporary, path)


def make_folder(folder: Place) -> None:
    """Makes a folder and the missing ones above it, each durable before anything is put into it.

    The folder above is flushed also where the folder is there already: whoever made it may not have come so far.
    """
    if isinstance(folder, ObjectPath):
        return
    if not folder.parent.is_dir():
        make_folder(folder.parent)
    with writing_to(folder), suppress(FileExistsError):
        folder.mkdir()
    sync_folder(folder.parent)


def move(source: Place, target: Place) -> bool:
    """Moves a file that others may be moving too, and says whether it was still there; not durable by itself."""
    if isinstance(source, ObjectPath) or isinstance(target, ObjectPath):
        assert isinstance(source, ObjectPath)
        assert isinstance(target, ObjectPath)
        return source.bucket.move(source.key, target.key)
    with writing_to(target):
        try:
            source.rename(target)
        except FileNotFoundError:
            return False
    return True


def remove(path: Place) -> bool:
    """Removes a file that others may be removing too, and says whether it was still there."""
    if isinstance(path, ObjectPath):
        return path.bucket.remove(path.key)
    with writing_to(path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
    return True


def temporary_name(folder: Path, suffix: str) -> Path:
    """Returns a path in ``folder`` that nobody else uses."""
    return folder / f"{uuid4().hex}{suffix}"
