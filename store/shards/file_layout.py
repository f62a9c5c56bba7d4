"""Laying out a file: where HDF5 puts each array, and every byte that is not an array's own.

The HDF5 library writes its structure into memory here, and never touches the disk: on a full one it is known to crash.
The arrays never pass through it; whoever writes the file puts them in at their offsets.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import h5py
import numpy as np
from xxhash import xxh3_128_hexdigest

from penult.store.files.durable import Part
from penult.store.shards.container import BLOCK_VERSION, OPENING, SMALLEST_BLOCK, Layout, Section

ALIGNMENT = 4096

Attributes = Mapping[str, str | int]
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""The type and shape of each array, in the order in which they shall lie."""


@dataclass(frozen=True)
class Draft:
    """A file without its arrays: where they go, and the bytes before, between and after them, in order."""

    layout: Layout
    gaps: tuple[Part, ...]


def draft(fields: Mapping[str, object], attributes: Attributes, shapes: Shapes) -> Draft:
    """Lays out a file of these arrays that opens with a block of ``fields``; the same arguments give the same bytes."""
    block_bytes = SMALLEST_BLOCK
    while True:
        outline, sections = _outlined(block_bytes, attributes, shapes)
        layout = Layout(fields, sections, outline.size)
        block = _block(layout)
        if len(block) <= block_bytes:
            outline.seek(0)
            outline.write(block)
            return Draft(layout, tuple(_gaps(outline, layout)))
        block_bytes *= 2


def _block(layout: Layout) -> bytes:
    sections = {name: [part.offset, part.dtype, part.shape] for name, part in layout.sections.items()}
    content = {**layout.fields, "size": layout.size_bytes, "sections": sections}
    text = json.dumps(content, separators=(",", ":")).encode()
    return OPENING % (BLOCK_VERSION, len(text), xxh3_128_hexdigest(text).encode()) + text


def _outlined(block_bytes: int, attributes: Attributes, shapes: Shapes) -> tuple["Outline", dict[str, Section]]:
    outline, sections = Outline(), {}
    with h5py.File(
        outline,
        "w",
        libver=("v110", "v110"),
        userblock_size=block_bytes,
        alignment_threshold=1,
        alignment_interval=ALIGNMENT,
    ) as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, (dtype, shape) in shapes.items():
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_layout(h5py.h5d.CONTIGUOUS)
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            layout.set_obj_track_times(False)
            kind, space = h5py.h5t.py_create(np.dtype(dtype), logical=True), h5py.h5s.create_simple(shape)
            offset = h5py.h5d.create(file.id, name.encode(), kind, space, layout).get_offset()
            sections[name] = Section(offset, dtype, shape)
    return outline, sections


def _gaps(outline: "Outline", layout: Layout) -> Iterator[Part]:
    position = 0
    for section in sorted(layout.sections.values(), key=lambda section: section.offset):
        yield position, outline.between(position, section.offset)
        position = section.offset + section.size_bytes
    yield position, outline.between(position, layout.size_bytes)


class Outline:
    """A file in memory that takes room only where something is written; what h5py needs of a file, and no more."""

    def __init__(self) -> None:
        self.size = 0
        self._position = 0
        self._pages: dict[int, bytearray] = {}

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a place."""
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def tell(self) -> int:
        """Returns the place."""
        return self._position

    def write(self, data: bytes | memoryview) -> int:
        """Writes at the place, and moves on."""
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
        """Reads from the place on, and moves on."""
        found = self.between(self._position, self._position + size)
        self._position += size
        return found

    def readinto(self, buffer: memoryview) -> int:
        """Reads from the place on into a buffer, and moves on."""
        buffer[:] = self.read(len(buffer))
        return len(buffer)

    def truncate(self, size: int) -> int:
        """Sets the size."""
        self.size = size
        return size

    def flush(self) -> None:
        """Has nothing to do."""

    def between(self, first: int, end: int) -> bytes:
        """Returns the bytes from one place up to another; zeros where nothing was written."""
        numbers = range(first // ALIGNMENT, -(-end // ALIGNMENT))
        pages = b"".join(self._pages.get(number, bytes(ALIGNMENT)) for number in numbers)
        return pages[first - numbers.start * ALIGNMENT :][: end - first]
