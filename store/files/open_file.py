"""Open files of a store, on this machine or in object storage, read at any place and from several threads."""

import os
from collections.abc import Sequence
from typing import Protocol

from penult.store.files.folders import open_plain
from penult.store.files.places import ObjectFile, ObjectPath, Place


class OpenFile(Protocol):
    """A file that is open for reading; what goes wrong is an ``OSError``."""

    size_bytes: int

    def close(self) -> None:
        """Closes it; once more does no harm."""

    def drop_cache(self) -> None:
        """Has what follows read from where it is kept, and not from memory."""

    def read(self, size: int, offset: int) -> bytes:
        """Returns the bytes from ``offset`` on, fewer where the file ends."""

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fills as much of ``view`` as it likes from ``offset`` on, and returns how much: nothing where it ends."""

    def read_many(self, size: int, offsets: Sequence[int]) -> list[bytes]:
        """Returns many pieces of one size."""


class LocalFile:
    """A file of this machine."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size_bytes = os.fstat(descriptor).st_size

    def close(self) -> None:
        """Closes it; once more does no harm."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()

    def drop_cache(self) -> None:
        """Has what follows read from the disk, where the system can be asked for that."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def read(self, size: int, offset: int) -> bytes:
        """Returns the bytes from ``offset`` on, fewer where the file ends."""
        return os.pread(self._descriptor, size, offset)

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fills as much of ``view`` as it likes from ``offset`` on, and returns how much: nothing where it ends."""
        return os.preadv(self._descriptor, [view], offset)

    def read_many(self, size: int, offsets: Sequence[int]) -> list[bytes]:
        """Returns many pieces of one size."""
        descriptor = self._descriptor
        return [os.pread(descriptor, size, offset) for offset in offsets]


def open_file(place: Place) -> OpenFile:
    """Opens a file for reading."""
    return ObjectFile(place) if isinstance(place, ObjectPath) else LocalFile(open_plain(place))


def content_of(place: Place, most_bytes: int) -> bytes:
    """Reads a whole file, or the first bytes of one that is larger than it should be."""
    if isinstance(place, ObjectPath):
        return place.bucket.read(place.key)
    with os.fdopen(open_plain(place), "rb") as file:
        return file.read(most_bytes)
