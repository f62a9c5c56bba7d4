"""The layout of a new HDF5 file: the offset of each array, and all bytes between the arrays.

The HDF5 library writes its structure into memory and never touches the disk, because it can crash on a full disk. The
caller writes the arrays at their offsets.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import h5py
import numpy as np
from xxhash import xxh3_128_hexdigest

from penult.store.files.local import Part
from penult.store.shards.container import BLOCK_VERSION, OPENING, SMALLEST_BLOCK, ContainerLayout, Section

ALIGNMENT = 4096

Attributes = Mapping[str, str | int]
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""The type and shape of each array, in file order."""


@dataclass(frozen=True)
class Draft:
    """A file without its arrays: their offsets, and the bytes before, between and after them in order."""

    layout: ContainerLayout
    gaps: tuple[Part, ...]


def draft(fields: Mapping[str, object], attributes: Attributes, shapes: Shapes) -> Draft:
    """Returns the layout of a file with a block of ``fields``; equal arguments give equal bytes."""
    block_bytes = SMALLEST_BLOCK
    while True:
        outline, sections = _outlined(block_bytes, tuple(attributes.items()), tuple(shapes.items()))
        outline = outline.copy()
        layout = ContainerLayout(fields, sections, outline.size)
        block = _block(layout)
        if len(block) <= block_bytes:
            outline.seek(0)
            outline.write(block)
            return Draft(layout, tuple(_gaps(outline, layout)))
        block_bytes *= 2


def _block(layout: ContainerLayout) -> bytes:
    sections = {name: [part.offset, part.dtype, part.shape] for name, part in layout.sections.items()}
    content = {**layout.fields, "size": layout.size_bytes, "sections": sections}
    text = json.dumps(content, separators=(",", ":")).encode()
    return OPENING % (BLOCK_VERSION, len(text), xxh3_128_hexdigest(text).encode()) + text


@lru_cache(maxsize=16)  # HDF5 takes milliseconds, and most shards of a job have equal attributes and shapes
def _outlined(
    block_bytes: int,
    attributes: tuple[tuple[str, str | int], ...],
    shapes: tuple[tuple[str, tuple[str, tuple[int, ...]]], ...],
) -> tuple["SparseFile", dict[str, Section]]:
    outline, sections = SparseFile(), {}
    with h5py.File(
        outline,
        "w",
        libver=("v110", "v110"),
        userblock_size=block_bytes,
        alignment_threshold=1,
        alignment_interval=ALIGNMENT,
    ) as file:
        for name, value in attributes:
            file.attrs[name] = value
        for name, (dtype, shape) in shapes:
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_layout(h5py.h5d.CONTIGUOUS)
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            layout.set_obj_track_times(False)
            kind, space = h5py.h5t.py_create(np.dtype(dtype), logical=True), h5py.h5s.create_simple(shape)
            offset = h5py.h5d.create(file.id, name.encode(), kind, space, layout).get_offset()
            sections[name] = Section(offset, dtype, shape)
    return outline, sections


def _gaps(outline: "SparseFile", layout: ContainerLayout) -> Iterator[Part]:
    position = 0
    for section in sorted(layout.sections.values(), key=lambda section: section.offset):
        yield position, outline.between(position, section.offset)
        position = section.offset + section.size_bytes
    yield position, outline.between(position, layout.size_bytes)


class SparseFile:
    """A sparse file in memory, with the methods that h5py needs."""

    def __init__(self) -> None:
        self.size = 0
        self._position = 0
        self._pages: dict[int, bytearray] = {}

    def copy(self) -> "SparseFile":
        """Returns an independent copy."""
        other = SparseFile()
        other.size, other._pages = self.size, {number: page[:] for number, page in self._pages.items()}
        return other

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to an offset."""
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def tell(self) -> int:
        """Returns the current offset."""
        return self._position

    def write(self, data: bytes | memoryview) -> int:
        """Writes at the current offset and moves past the data."""
        rest = memoryview(data).cast("B")
        while rest:
            number, start = divmod(self._position, ALIGNMENT)
            page = self._pages.setdefault(number, bytearray(ALIGNMENT))
            piece = rest[: ALIGNMENT - start]
            page[start : start + len(piece)] = piece
            self._position, rest = self._position + len(piece), rest[len(piece) :]
        self.size = max(self.size, self._position)
        return memoryview(data).nbytes

    def read(self, size: int) -> bytes:
        """Reads from the current offset and moves past the data."""
        found = self.between(self._position, self._position + size)
        self._position += size
        return found

    def readinto(self, buffer: memoryview) -> int:
        """Reads from the current offset into a buffer and moves past the data."""
        buffer[:] = self.read(len(buffer))
        return len(buffer)

    def truncate(self, size: int) -> int:
        """Sets the size of the file."""
        self.size = size
        return size

    def flush(self) -> None:
        """Does nothing."""

    def between(self, first: int, end: int) -> bytes:
        """Returns the bytes from one offset up to another, with zeros where nothing was written."""
        numbers = range(first // ALIGNMENT, -(-end // ALIGNMENT))
        pages = b"".join(self._pages.get(number, bytes(ALIGNMENT)) for number in numbers)
        return pages[first - numbers.start * ALIGNMENT :][: end - first]
