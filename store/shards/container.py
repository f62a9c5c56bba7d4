"""An HDF5 file whose user block lists the offset of each array.

Other tools read the file as plain HDF5. Penult reads the block, which has its own checksum, and then the arrays by
offset. It parses no HDF5 metadata, opens a file in microseconds, and reads in threads without HDF5's global lock.
"""

import errno
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128_hexdigest

from penult.errors import StoreDamagedError, StoreFormatError
from penult.store.files.protocol import OpenFile, StoragePath

SMALLEST_BLOCK = 4096
LARGEST_BLOCK = 1 << 26
OPENING = b"penult %02d %08d %s\n"
OPENING_BYTES = len(OPENING % (0, 0, b"0" * 32))
BLOCK_VERSION = 1
TYPES = ("|u1", "<u4", "<u8", "<f2", "<f4")

Array = NDArray[Any]


@dataclass(frozen=True)
class Section:
    """The offset, type and shape of one array in a file."""

    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """The size of the array in bytes."""
        return int(self.dtype[2:]) * math.prod(self.shape)


@dataclass(frozen=True)
class ContainerLayout:
    """The content of a file's block: its fields, and the sections of the arrays."""

    fields: Mapping[str, Any]
    sections: Mapping[str, Section]
    size_bytes: int


class OpenContainer:
    """A file that is open for reading, as a context manager."""

    def __init__(self, path: StoragePath, file: OpenFile, layout: ContainerLayout) -> None:
        self.path = path
        self._file = file
        self.layout = layout

    def close(self) -> None:
        """Closes the file; closing it twice is harmless."""
        self._file.close()

    def __enter__(self) -> "OpenContainer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_into(self, buffer: Array, offset: int) -> None:
        """Fills a contiguous array with the file's bytes from ``offset`` on; raises if the file ends too early."""
        view = buffer.data.cast("B") if buffer.size else memoryview(b"")
        filled = 0
        while filled < len(view):
            try:
                count = self._file.read_into(view[filled:], offset + filled)
            except OSError as error:
                raise unreadable(self.path, error) from error
            if count == 0:
                raise damaged(self.path, "ends before its data does")
            filled += count

    def read_pieces(self, size: int, offsets: Sequence[int]) -> list[bytes]:
        """Returns ``size`` bytes at each offset; raises if the file ends too early."""
        try:
            pieces = self._file.read_many(size, offsets)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if sum(map(len, pieces)) != len(pieces) * size:
            raise damaged(self.path, "ends before its data does")
        return pieces

    def array(self, name: str, first: int = 0, end: int | None = None) -> Array:
        """Reads an array, or a range of its rows; the caller checks the checksum."""
        section = self.layout.sections[name]
        rows = section.shape[0]
        array = np.empty(((rows if end is None else end) - first, *section.shape[1:]), dtype=section.dtype)
        self.read_into(array, section.offset + first * (section.size_bytes // max(rows, 1)))
        return array


def damaged(path: StoragePath | Path, what: str) -> StoreDamagedError:
    """Returns the error for a committed file that has changed or cannot be read."""
    return StoreDamagedError(
        f"{path} {what}",
        expected="the bytes that were committed",
        remedy="run `penult store verify`: it lists the damaged files and moves them aside with --repair",
    )


def unreadable(path: StoragePath, error: OSError) -> OSError:
    """Returns the error for a failed read; on a network disk, another host may have removed the file."""
    if error.errno in {errno.ENOENT, errno.ESTALE}:
        return FileNotFoundError(error.errno, error.strerror, str(path))
    if isinstance(error, FileNotFoundError):  # from object storage, without an errno
        return error
    return damaged(path, f"cannot be read: {error.strerror or error}")


def open_container(path: StoragePath, layout: ContainerLayout | None = None) -> OpenContainer:
    """Opens a file for reading; reads and checks its block unless the ``layout`` is known.

    A missing file raises ``FileNotFoundError``: only the caller knows whether it should exist.
    """
    try:
        file = path.open_file()
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        layout = layout or _read_block(path, file)
        if file.size_bytes != layout.size_bytes:
            raise damaged(path, f"has {file.size_bytes} bytes instead of {layout.size_bytes}")
        return OpenContainer(path, file, layout)
    except BaseException:
        file.close()
        raise


def _read_block(path: StoragePath, file: OpenFile) -> ContainerLayout:
    opening = _read(path, file, SMALLEST_BLOCK, 0)
    words = opening[:OPENING_BYTES].split()
    if len(words) != 4 or words[0] != b"penult" or not words[1].isdigit() or not words[2].isdigit():
        raise damaged(path, "does not start with the block of a penult file")
    version, length = int(words[1]), int(words[2])
    if version != BLOCK_VERSION:
        raise StoreFormatError(
            f"{path} starts with a block of version {version}",
            expected=f"version {BLOCK_VERSION}",
            remedy="upgrade penult; if other files in this folder open, this one is damaged",
        )
    text = opening[OPENING_BYTES : OPENING_BYTES + length]
    if len(text) < length <= LARGEST_BLOCK:
        text += _read(path, file, length - len(text), OPENING_BYTES + len(text))
    if xxh3_128_hexdigest(text).encode() != words[3]:
        raise damaged(path, "has a block that fails its checksum")
    return _layout(path, text)


def _read(path: StoragePath, file: OpenFile, size: int, offset: int) -> bytes:
    try:
        return file.read(size, offset)
    except OSError as error:
        raise unreadable(path, error) from error


def _layout(path: StoragePath, text: bytes) -> ContainerLayout:
    try:
        fields = json.loads(text)
        sections = {
            name: Section(int(at), dtype, tuple(shape)) for name, (at, dtype, shape) in fields["sections"].items()
        }
        size = int(fields["size"])
        is_sound = all(
            part.dtype in TYPES and min(part.shape) >= 0 and 0 <= part.offset <= size - part.size_bytes
            for part in sections.values()
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(path, f"starts with an invalid block ({error})") from error
    if not is_sound:
        raise damaged(path, "describes an array that ends after the file does")
    return ContainerLayout(fields, sections, size)
