"""Reads the bytes of one image, wherever it lies, and waits for nobody who may never write them."""

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


# A file of more bytes than this is no photo, and reading it whole would cost the memory of thousands.
MAX_BYTES = 1 << 28

_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def read_file(file: ImageFile) -> bytes:
    """Returns what the image's file holds.

    Raises:
        ImageError: it can never be read: it is too large, or no regular file.
        OSError, ValueError: it cannot be read now, and perhaps at another time.
    """
    if file.place is not None:
        return file.place.read(file, MAX_BYTES)
    descriptor = os.open(file.path, _READING)  # which waits for nobody where a pipe stands
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageError("it is no regular file")
    with os.fdopen(descriptor, "rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ImageError(f"the file is too large: more than {MAX_BYTES:,} bytes")
    return data


# How many archives' tables of contents are remembered at once.
ARCHIVES = 4


def read_again(path: str | Path) -> bytes:
    """Returns the bytes of an image: a file, or one in an archive that is a file.

    Raises:
        ImageError: it is too large, or the archive holds it in a way that cannot be read.
        OSError: it is not there any more. What came over a network is not fetched again.
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


@lru_cache(maxsize=ARCHIVES)
def _contents(archive: str, mtime_ns: int, size: int) -> Mapping[str, ImageFile]:
    """Lists an archive; a changed one is another."""
    return {file.path: file for file in list_archive_file(archive)}


@dataclass(frozen=True)
class InMemory:
    """Bytes that are in memory already."""

    data: bytes

    def read(self, file: ImageFile, most_bytes: int) -> bytes:
        """Returns them."""
        return self.data


def array_image(array: NDArray[Any]) -> ImageFile:
    """Returns the image of an array of uint8, (H, W, 3) in RGB or (H, W) in grey.

    It is the sample that a PPM or PGM file of these pixels is, and is called by its key.
    """
    is_grey = array.ndim == 2
    if array.dtype != np.uint8 or not (is_grey or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise InputError(
            f"An image is an array {array.shape} of {array.dtype}",
            expected="(H, W, 3) or (H, W) of uint8",
            remedy="scale it to 0..255, move its channels to the end, and leave out any but red, green and blue",
        )
    height, width = array.shape[:2]
    head = f"P{5 if is_grey else 6} {width} {height} 255\n".encode()
    data = head + np.ascontiguousarray(array).tobytes()
    return ImageFile(f"array:{key_of(data).hex()}", len(data), 0, place=InMemory(data))
