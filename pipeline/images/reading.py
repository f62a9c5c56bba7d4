"""Reads the bytes of one image from any source, and never blocks on a pipe or a device."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import ImageError, InputError
from penult.pipeline.images.archives import list_archive_file
from penult.pipeline.images.image_file import ImageFile, is_archive
from penult.store.keys import key_of

__all__ = ["MAX_BYTES", "InMemory", "array_image", "read_again", "read_file"]

# A larger file is not a photo, and reading it would take the memory of thousands of photos.
MAX_BYTES = 1 << 28

# Number of archives whose listings are cached.
CACHED_ARCHIVES = 4

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class InMemory:
    """A reader for an image that is already in memory."""

    data: bytes

    def read(self, file: ImageFile, max_bytes: int) -> bytes:
        """Returns the image's bytes."""
        return self.data


def read_file(file: ImageFile) -> bytes:
    """Returns the content of the image's file.

    Raises:
        ImageError: it can never be read: it is too large, or not a regular file.
        OSError, ValueError: it cannot be read now; a later attempt may succeed.
    """
    if file.reader is not None:
        return file.reader.read(file, MAX_BYTES)
    descriptor = os.open(file.path, _FLAGS)  # does not block if the path is a pipe
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageError("it is not a regular file")
    with os.fdopen(descriptor, "rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ImageError(f"the file is too large: more than {MAX_BYTES:,} bytes")
    return data


def read_again(path: str | Path) -> bytes:
    """Returns the bytes of an image that was listed earlier: a local file, or a member of a local archive.

    Raises:
        ImageError: it is too large, or the archive stores it in a way that cannot be read.
        OSError: it no longer exists. Remote images are not downloaded again.
    """
    file = Path(path)
    if file.is_file():
        return read_file(ImageFile.at(str(file)))
    for archive in file.parents:
        if is_archive(archive.name) and archive.is_file():
            found = archive.stat()
            member = _contents(str(archive), found.st_mtime_ns, found.st_size).get(str(path))
            if member is not None:
                return read_file(member)
    raise FileNotFoundError(2, "No such file or directory", str(path))


@lru_cache(maxsize=CACHED_ARCHIVES)
def _contents(archive: str, mtime_ns: int, size: int) -> Mapping[str, ImageFile]:
    """Lists an archive; time and size are in the cache's key, so that a changed archive is listed again."""
    return {file.path: file for file in list_archive_file(archive)}


def array_image(array: NDArray[Any]) -> ImageFile:
    """Returns the image of a uint8 array: (H, W, 3) in RGB, or (H, W) in grey.

    It is the same sample as a PPM or PGM file of these pixels, and its path contains its key.
    """
    is_grey = array.ndim == 2
    if array.dtype != np.uint8 or not (is_grey or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise InputError(
            f"An image is an array {array.shape} of {array.dtype}",
            expected="(H, W, 3) or (H, W) of uint8",
            remedy="scale it to 0..255, move its channels to the end, and keep only red, green and blue",
        )
    height, width = array.shape[:2]
    head = f"P{5 if is_grey else 6} {width} {height} 255\n".encode()
    data = head + np.ascontiguousarray(array).tobytes()
    return ImageFile(f"array:{key_of(data).hex()}", len(data), 0, reader=InMemory(data))
