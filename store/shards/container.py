"""An HDF5 file that opens with a block of its own saying where each array lies.

Other tools read it as plain HDF5. Penult reads the block (one read, its own checksum) and then the arrays by their
offsets: no foreign metadata is parsed, files open in microseconds, and threads read without HDF5's global lock.
"""

import errno
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128_hexdigest

from penult.errors import StoreDamagedError, StoreFormatError
from penult.store.files.open_file import OpenFile, open_file
from penult.store.files.places import Place

SMALLEST_BLOCK = 4096
LARGEST_BLOCK = 1 << 26
OPENING = b"penult %02d %08d %s\n"
OPENING_BYTES = len(OPENING % (0, 0, b"0" * 32))
BLOCK_VERSION = 1
TYPES = ("|u1", "<u4", "<u8", "<f2", "<f4")

Array = NDArray[Any]


@dataclass(frozen=True)
class Section:
    """Where one array lies in a file."""

    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """The bytes of the array."""
        return int(self.dtype[2:]) * math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """What the block of a file says: its own fields, and where the arrays lie."""

    fields: Mapping[str, Any]
    sections: Mapping[str, Section]
    size_bytes: int


class OpenContainer:
    """A file that is open for reading; closed when left, or when let go."""

    def __init__(self, path: Place, file: OpenFile, layout: Layout) -> None:
        self.path = path
        self._file = file
        self.layout = layout

    def close(self) -> None:
        """Closes the file; once more does no harm."""
        self._file.close()

    def __enter__(self) -> "OpenContainer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_into(self, buffer: Array, offset: int) -> None:
        """Fills a contiguous array with the file's bytes from ``offset`` on, or raises."""
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
        """Returns the bytes of ``size`` at each of the offsets, or raises."""
        try:
            pieces = self._file.read_many(size, offsets)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if sum(map(len, pieces)) != len(pieces) * size:
            raise damaged(self.path, "ends before its data does")
        return pieces

    def array(self, name: str, first: int = 0, end: int | None = None) -> Array:
        """Reads an array, or a range of its rows; whether the bytes are the written ones is for the caller to check."""
        section = self.layout.sections[name]
        rows = section.shape[0]
        array = np.empty(((rows if end is None else end) - first, *section.shape[1:]), dtype=section.dtype)
        self.read_into(array, section.offset + first * (section.size_bytes // max(rows, 1)))
        return array


def damaged(path: Place, what: str) -> StoreDamagedError:
    """Makes the error for a committed file that is not as it was written."""
    return StoreDamagedError(
        f"{path} {what}",
        expected="the bytes that were committed",
        remedy="run `penult store verify`: it names what is damaged and, with --repair, sets it aside",
    )


def unreadable(path: Place, error: OSError) -> OSError:
    """Makes the error for a file that the system does not read: on a network disk another host may have removed it."""
    if error.errno in {errno.ENOENT, errno.ESTALE}:
        return FileNotFoundError(error.errno, error.strerror, str(path))
    if isinstance(error, FileNotFoundError):  # object storage gives it no number
        return error
    return damaged(path, f"cannot be read: {error.strerror or error}")


def open_container(path: Place, layout: Layout | None = None) -> OpenContainer:
    """Opens a file for reading; without a ``layout`` known from before, its block is read and checked.

    A missing file stays a ``FileNotFoundError``: whether it should be there is for the caller to say.
    """
    try:
        file = open_file(path)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        layout = layout or _read_block(path, file)
        if file.size_bytes != layout.size_bytes:
            raise damaged(path, f"has {file.size_bytes} bytes in place of {layout.size_bytes}")
        return OpenContainer(path, file, layout)
    except BaseException:
        file.close()
        raise


def _read_block(path: Place, file: OpenFile) -> Layout:
    opening = _read(path, file, SMALLEST_BLOCK, 0)
    words = opening[:OPENING_BYTES].split()
    if len(words) != 4 or words[0] != b"penult" or not words[1].isdigit() or not words[2].isdigit():
        raise damaged(path, "does not open with the block of a penult file")
    version, length = int(words[1]), int(words[2])
    if version != BLOCK_VERSION:
        raise StoreFormatError(
            f"{path} opens with a block of version {version}",
            expected=f"version {BLOCK_VERSION}",
            remedy="upgrade penult; if other files of the folder open, this one is damaged",
        )
    text = opening[OPENING_BYTES : OPENING_BYTES + length]
    if len(text) < length <= LARGEST_BLOCK:
        text += _read(path, file, length - len(text), OPENING_BYTES + len(text))
    if xxh3_128_hexdigest(text).encode() != words[3]:
        raise damaged(path, "has a block that fails its checksum")
    return _layout(path, text)


def _read(path: Place, file: OpenFile, size: int, offset: int) -> bytes:
    try:
        return file.read(size, offset)
    except OSError as error:
        raise unreadable(path, error) from error


def _layout(path: Place, text: bytes) -> Layout:
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
        raise damaged(path, f"opens with a block that makes no sense ({error})") from error
    if not is_sound:
        raise damaged(path, "describes an array that reaches past its end")
    return Layout(fields, sections, size)
