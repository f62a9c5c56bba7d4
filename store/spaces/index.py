"""The index of a space: a file of sorted keys and row positions, derived from the shards and verified at each read.

It is read a few blocks at a time, so a space can have more rows than fit into memory. An index of up to 16 million keys
stays in memory once many of its blocks were needed.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest, xxh3_128_hexdigest

from penult.store.files.local import Part
from penult.store.files.protocol import StoragePath
from penult.store.keys import Halves, order_of
from penult.store.shards.container import OpenContainer, damaged, open_container
from penult.store.shards.file_layout import Draft, draft
from penult.store.shards.key_table import ABSENT, KeyTable, Positions, search

FORMAT = "penult-index"
MAJOR, MINOR = 1, 0
NAME = re.compile(r"([0-9]{12})\.h5")
BLOCK_KEYS = 8192
RUN_BLOCKS = 32
KEPT_KEYS = 1 << 24
KEPT_SHARE = 4

Entries = NDArray[np.uint64]
"""Three rows: first halves of keys, second halves, and positions."""

Guide = NDArray[np.uint64]
"""A row for each block: the two halves of its first key, and its checksum."""


def file_name(number: int) -> str:
    """Returns the name of the index of a manifest."""
    return f"{number:012d}.h5"


def index_parts(space_id: str, shards: tuple[str, ...], capacity: int, tables: Iterable[KeyTable]) -> Iterator[Part]:
    """Yields the parts of an index file from consecutive tables with at most ``capacity`` keys."""
    layout = _draft(space_id, shards, capacity, 0, "").layout
    start, end = layout.sections["entries"].offset, layout.size_bytes
    guide: Guide = np.zeros(layout.sections["guide"].shape, dtype="<u8")
    size = 0
    for block in _blocks(tables):
        guide[size // BLOCK_KEYS] = (block[0, 0], block[1, 0], _sum(block))
        for row in range(3):
            yield start + 8 * (row * capacity + size), block[row].data.cast("B")
        size += block.shape[1]
    if size < capacity:
        yield end - 8, bytes(8)
    drafted = _draft(space_id, shards, capacity, size, xxh3_128_hexdigest(guide.data))
    yield from drafted.gaps
    yield drafted.layout.sections["guide"].offset, guide.data.cast("B")


def _draft(space_id: str, shards: tuple[str, ...], capacity: int, size: int, guide_digest: str) -> Draft:
    # The size and the digest are known only at the end; fields of fixed width keep the layout unchanged.
    fields = {
        "kind": "index",
        "version": [MAJOR, MINOR],
        "space_id": space_id,
        "block_keys": BLOCK_KEYS,
        "keys": f"{size:012d}",
        "guide_xxh3": f"{guide_digest:>32}",
        "shards": shards,
    }
    shapes = {"guide": ("<u8", (-(-capacity // BLOCK_KEYS), 3)), "entries": ("<u8", (3, capacity))}
    return draft(fields, {"format": FORMAT, "version": f"{MAJOR}.{MINOR}", "space_id": space_id}, shapes)


def _blocks(tables: Iterable[KeyTable]) -> Iterator[Entries]:
    pending: Entries = np.empty((3, 0), dtype="<u8")
    for table in tables:
        added = np.stack([table.high, table.low, table.positions.astype(np.uint64)])
        pending = np.concatenate([pending, added], axis=1)
        while pending.shape[1] >= BLOCK_KEYS:
            yield np.ascontiguousarray(pending[:, :BLOCK_KEYS])
            pending = pending[:, BLOCK_KEYS:]
    if pending.shape[1]:
        yield np.ascontiguousarray(pending)


def _sum(block: Entries) -> int:
    total = 0
    for row in block:
        total = xxh3_64_intdigest(row.data, total)
    return total


class Index:
    """An open index."""

    def __init__(self, file: OpenContainer) -> None:
        self._file = file
        fields = file.layout.fields
        self.shards: tuple[str, ...] = tuple(fields["shards"])
        self._size = int(fields["keys"])
        self._capacity: int = file.layout.sections["entries"].shape[1]
        self._guide: Guide = file.array("guide")
        if xxh3_128_hexdigest(self._guide.data) != fields["guide_xxh3"]:
            raise damaged(file.path, "has a guide that fails its checksum")
        self._kept: Entries | None = None
        self._blocks = -(-self._size // BLOCK_KEYS)
        self._first_high = np.ascontiguousarray(self._guide[: self._blocks, 0])
        self._first_low = self._guide[: self._blocks, 1]

    @classmethod
    def open(cls, path: StoragePath, space_id: str) -> Self:
        """Opens an index and checks that it belongs to the space."""
        file = open_container(path)
        expected = {"kind": "index", "version": [MAJOR, MINOR], "space_id": space_id, "block_keys": BLOCK_KEYS}
        if {name: file.layout.fields.get(name) for name in expected} != expected:
            raise damaged(path, "is not an index of this space and version")
        return cls(file)

    def __len__(self) -> int:
        return self._size

    def find(self, high: Halves, low: Halves) -> Positions:
        """Returns the position of each key's row, or ABSENT."""
        found = np.full(len(high), ABSENT, dtype=np.int64)
        order = order_of(high, low)
        high, low = high[order], low[order]
        if self._kept is None and self._is_worth_keeping(high):
            self._kept = self._read(0, self._blocks)
        if self._kept is not None:
            places = search(self._kept[0], self._kept[1], high, low)
            found[order] = np.where(places == ABSENT, ABSENT, self._kept[2].view(np.int64)[places])
            return found
        blocks = np.searchsorted(self._first_high, high, side="right") - 1
        while True:
            # The block may start with a key that has the same first half and comes after the wanted key.
            at = np.maximum(blocks, 0)
            is_past = (blocks >= 0) & (self._first_high[at] == high) & (self._first_low[at] > low)
            if not is_past.any():
                break
            blocks[is_past] -= 1
        for first, end, start, stop in _runs(blocks):
            entries = self._read(first, end)
            places = search(entries[0], entries[1], high[start:stop], low[start:stop])
            hits = np.flatnonzero(places != ABSENT)
            found[order[start + hits]] = entries[2, places[hits]]
        return found

    def _is_worth_keeping(self, high: Halves) -> bool:
        touched = len(np.unique(np.searchsorted(self._first_high, high)))
        return 0 < self._size <= KEPT_KEYS and touched * KEPT_SHARE > self._blocks

    def tables(self) -> Iterator[KeyTable]:
        """Yields all keys and positions in order, in parts."""
        for first in range(0, self._blocks, RUN_BLOCKS):
            high, low, positions = self._read(first, min(first + RUN_BLOCKS, self._blocks))
            yield KeyTable(high, low, positions.astype(np.int64))

    def _read(self, first: int, end: int) -> Entries:
        start, stop = first * BLOCK_KEYS, min(end * BLOCK_KEYS, self._size)
        entries = np.empty((3, stop - start), dtype="<u8")
        offset = self._file.layout.sections["entries"].offset
        for row in range(3):
            self._file.read_into(entries[row], offset + 8 * (row * self._capacity + start))
        for block in range(first, end):
            at = (block - first) * BLOCK_KEYS
            if _sum(entries[:, at : at + BLOCK_KEYS]) != self._guide[block, 2]:
                raise damaged(self._file.path, "has a block that fails its checksum")
        return entries


def _runs(blocks: NDArray[np.intp]) -> Iterator[tuple[int, int, int, int]]:
    """Groups sorted block numbers into runs of neighbours; yields the blocks and the range of their places."""
    touched, starts = np.unique(blocks, return_index=True)
    stops = np.append(starts[1:], len(blocks))
    first = int(np.searchsorted(touched, 0))
    for i in range(first, len(touched)):
        is_last = i + 1 == len(touched)
        if is_last or touched[i + 1] > touched[i] + 1 or touched[i] + 1 == touched[first] + RUN_BLOCKS:
            yield int(touched[first]), int(touched[i]) + 1, int(starts[first]), int(stops[i])
            first = i + 1
