"""An HDF5 file that opens with a block of its own saying where each array lies.

Other tools read it as plain HDF5. Penult reads the block (one read, its own checksum) and then the arrays by their
offsets: no foreign metadata is parsed, files open in microseconds, and threads read without HDF5's global lock.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128, xxh3_128_hexdigest

from penult.errors import StoreDamagedError, StoreFormatError
from penult.store.folders import open_plain

ALIGNMENT = 4096
SMALLEST_BLOCK = 4096
LARGEST_BLOCK = 1 << 26
OPENING = b"penult %02d %08d %s\n"
OPENING_BYTES = len(OPENING % (0, 0, b"0" * 32))
TYPES = {"|u1": 1, "<u4": 4, "<u8": 8, "<f2": 2, "<f4": 4}

Array = NDArray[Any]


@dataclass(frozen=True)
class Section:
    """Where one array lies in the file."""

    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """The bytes of the array."""
        return TYPES[self.dtype] * int(np.prod(self.shape, dtype=object))


@dataclass(frozen=True)
class Image:
    """A finished file that has not been written yet: its parts in order, their size and their digest."""

    parts: tuple[bytes | memoryview, ...]
    size_bytes: int
    digest: str


def build(fields: Mapping[str, Any], attributes: Mapping[str, str | int], arrays: Mapping[str, Array]) -> Image:
    """Builds the file of ``arrays``, opened by a block of ``fields``; the same arguments give the same bytes.

    The arrays are not copied: they must be contiguous and stay as they are until the image is written.
    """
    block_bytes = SMALLEST_BLOCK
    while True:
        skeleton, offsets = _skeleton(block_bytes, attributes, arrays)
        sections = {
            name: [offsets[name], np.dtype(array.dtype).str, list(array.shape)] for name, array in arrays.items()
        }
        size = max([len(skeleton), *(offsets[name] + array.nbytes for name, array in arrays.items())])
        text = json.dumps({**fields, "size": size, "sections": sections}, separators=(",", ":")).encode()
        if OPENING_BYTES + len(text) <= block_bytes:
            break
        block_bytes *= 2
    opening = OPENING % (1, len(text), xxh3_128_hexdigest(text).encode())
    skeleton[:block_bytes] = (opening + text).ljust(block_bytes, b"\0")
    parts = tuple(_interleave(bytes(skeleton), {offsets[name]: array for name, array in arrays.items()}))
    digest = xxh3_128()
    for part in parts:
        digest.update(part)
    return Image(parts, size, digest.hexdigest())


def _skeleton(
    block_bytes: int, attributes: Mapping[str, str | int], arrays: Mapping[str, Array]
) -> tuple[bytearray, dict[str, int]]:
    # HDF5 lays the file out, but the arrays' own bytes never pass through it: they are put in at their offsets.
    buffer = io.BytesIO()
    offsets: dict[str, int] = {}
    with h5py.File(
        buffer,
        "w",
        libver=("v110", "v110"),
        userblock_size=block_bytes,
        alignment_threshold=1,
        alignment_interval=ALIGNMENT,
    ) as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, array in arrays.items():
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_layout(h5py.h5d.CONTIGUOUS)
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            layout.set_obj_track_times(False)
            kind, space = h5py.h5t.py_create(array.dtype, logical=True), h5py.h5s.create_simple(array.shape)
            dataset = h5py.h5d.create(file.id, name.encode(), kind, space, layout)
            offsets[name] = dataset.get_offset()
    return bytearray(buffer.getbuffer()), offsets


def _interleave(skeleton: bytes, arrays: Mapping[int, Array]) -> Iterator[bytes | memoryview]:
    position = 0
    for offset, array in sorted(arrays.items(), key=lambda item: item[0]):
        yield skeleton[position:offset].ljust(offset - position, b"\0")
        yield array.data.cast("B") if array.size else b""
        position = offset + array.nbytes
    if position < len(skeleton):
        yield skeleton[position:]


@dataclass(frozen=True)
class OpenContainer:
    """A file whose block has been read and checked; closes its descriptor when left."""

    path: Path
    descriptor: int
    fields: Mapping[str, Any]
    sections: Mapping[str, Section]
    size_bytes: int

    def __enter__(self) -> "OpenContainer":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def read_into(self, buffer: Array, offset: int) -> None:
        """Fills a contiguous array with the file's bytes from ``offset`` on, or raises."""
        view, filled = buffer.data.cast("B"), 0
        while filled < len(view):
            try:
                count = os.preadv(self.descriptor, [view[filled:]], offset + filled)
            except OSError as error:
                raise damaged(self.path, f"cannot be read: {os.strerror(error.errno or 0)}") from error
            if count == 0:
                raise damaged(self.path, "ends before its data does")
            filled += count

    def array(self, name: str) -> Array:
        """Reads one whole array; whether its bytes are the ones that were written is for the caller to check."""
        section = self.sections[name]
        array = np.empty(section.shape, dtype=section.dtype)
        if array.size:
            self.read_into(array, section.offset)
        return array


def damaged(path: Path, what: str) -> StoreDamagedError:
    """Makes the error for a committed file that is not as it was written."""
    return StoreDamagedError(
        f"{path} {what}",
        expected="the bytes that were committed",
        remedy="run `penult store verify`: it names what is damaged and, with --repair, sets it aside",
    )


def open_container(path: Path) -> OpenContainer:
    """Opens a file for reading and checks its block; a missing file stays a ``FileNotFoundError``."""
    try:
        descriptor = open_plain(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise damaged(path, f"cannot be opened: {os.strerror(error.errno or 0)}") from error
    try:
        fields, sections = _read_block(path, descriptor)
        return OpenContainer(path, descriptor, fields, sections, fields["size"])
    except BaseException:
        os.close(descriptor)
        raise


def _read_block(path: Path, descriptor: int) -> tuple[dict[str, Any], dict[str, Section]]:
    opening = os.pread(descriptor, SMALLEST_BLOCK, 0)
    words = opening[:OPENING_BYTES].split()
    if len(words) != 4 or words[0] != b"penult" or not words[2].isdigit():
        raise damaged(path, "does not open with the block of a penult file")
    if words[1] != b"01":
        raise StoreFormatError(
            f"{path} has a block of version {words[1].decode(errors='replace')}",
            expected="version 01",
            remedy="upgrade penult",
        )
    length = int(words[2])
    if length > LARGEST_BLOCK:
        raise damaged(path, f"claims a block of {length} bytes")
    text = opening[OPENING_BYTES : OPENING_BYTES + length]
    if len(text) < length:
        text += os.pread(descriptor, length - len(text), OPENING_BYTES + len(text))
    if xxh3_128_hexdigest(text).encode() != words[3]:
        raise damaged(path, "has a block that fails its checksum")
    fields = json.loads(text)
    size = os.fstat(descriptor).st_size
    if size != fields["size"]:
        raise damaged(path, f"has {size} bytes in place of {fields['size']}")
    return fields, {name: _section(path, entry, size) for name, entry in fields["sections"].items()}


def _section(path: Path, entry: Any, size: int) -> Section:
    offset, dtype, shape = entry
    is_sound = type(offset) is int and offset >= 0 and dtype in TYPES and all(type(n) is int and n >= 0 for n in shape)
    if not is_sound:
        raise damaged(path, f"describes an array as {entry}")
    section = Section(offset, dtype, tuple(shape))
    if offset + section.size_bytes > size:
        raise damaged(path, "describes an array that reaches past its end")
    return section
