"""Reading rows, in threads: what is returned has passed a checksum that is bound to its key.

Where many rows of a block are wanted the block is read whole, under its own checksum; elsewhere row by row.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from penult.store.keys import Keys, halves
from penult.store.spaces.cast import widening
from penult.store.spaces.checksums import Stored, block_sum
from penult.store.spaces.container import damaged, unreadable
from penult.store.spaces.keytable import Positions
from penult.store.spaces.shardlist import ShardList
from penult.store.spaces.shards import Shard, room_for

TASK_BYTES = 1 << 24
ROW_COST_BYTES = 1 << 14
THREADS_LIMIT = 8

Features = NDArray[np.floating[Any]]
Places = NDArray[np.intp]


def processors() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Reader:
    """Fills ``out`` with the rows of ``keys``; the number of threads changes the time that it takes, and no bit."""

    shards: ShardList
    keys: Keys
    out: Features
    is_checking: bool = True

    def read(self, positions: Positions) -> None:
        """Reads the rows that lie at ``positions``, one for each key."""
        tasks = list(self._tasks(positions))
        workers = min(processors(), THREADS_LIMIT, len(tasks))
        if workers <= 1:
            for task in tasks:
                self._run(*task)
            return
        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(self._run, *task) for task in tasks]:
                done.result()

    def _tasks(self, positions: Positions) -> Iterator[tuple[str, Positions, Places]]:
        step = max(TASK_BYTES // self.shards.folder.spec.row_bytes, 1)
        for name, rows, places in self.shards.split(positions):
            for start in range(0, len(rows), step):
                yield name, rows[start : start + step], places[start : start + step]

    def _run(self, name: str, rows: Positions, places: Places) -> None:
        spec = self.shards.folder.spec
        with self.shards.folder.open_shard(name) as shard:
            starts = np.flatnonzero(np.diff(rows // shard.block_rows, prepend=-1))
            counts = np.diff(starts, append=len(rows))
            is_dense = counts * (spec.row_bytes + ROW_COST_BYTES) >= shard.block_rows * spec.row_bytes
            blocks = BlockReader(shard, room_for(spec, shard.block_rows), self.is_checking)
            deliver = Delivery(self.out, shard.block_rows)
            for start, count in zip(starts[is_dense], counts[is_dense], strict=True):
                part = slice(start, start + count)
                deliver(blocks.rows(rows[part]), places[part])
            sparse = np.flatnonzero(np.repeat(~is_dense, counts))
            if len(sparse):
                deliver(self._rows_singly(shard, rows[sparse], places[sparse]), places[sparse])

    def _rows_singly(self, shard: Shard, rows: Positions, places: Places) -> Stored:
        spec, file = self.shards.folder.spec, shard.file
        start = file.layout.sections["features"].offset
        size, descriptor = spec.row_bytes, file.descriptor
        try:
            pieces = [os.pread(descriptor, size, start + row * size) for row in rows.tolist()]
        except OSError as error:
            raise unreadable(file.path, error) from error
        data = b"".join(pieces)
        if len(data) != len(rows) * size:
            raise damaged(file.path, "ends before its data does")
        if self.is_checking:
            high, low = halves(self.keys[places])
            sums = map(xxh3_64_intdigest, pieces, (high ^ low).tolist())
            expected = shard.row_sums(int(rows[0]), int(rows[-1]) + 1)[rows - rows[0]]
            if list(sums) != expected.tolist():
                raise damaged(file.path, "has rows that fail their checksum")
        return np.frombuffer(data, dtype=spec.stored_type).reshape(-1, spec.width)


class BlockReader:
    """Reads rows of a shard that lie in one block."""

    def __init__(self, shard: Shard, room: Stored, is_checking: bool) -> None:
        self._shard = shard
        self._room = room
        self._is_checking = is_checking

    def rows(self, wanted: Positions) -> Stored:
        """Returns the wanted rows, in room that the next call uses again."""
        step = self._shard.block_rows
        block = int(wanted[0]) // step
        first = block * step
        rows = self._room[: min(step, self._shard.rows - first)]
        self._shard.read_rows(first, rows)
        if self._is_checking:
            keys = self._shard.file.array("keys", first, first + len(rows))
            if block_sum(keys, rows) != self._shard.file.array("block_xxh3", block, block + 1)[0]:
                raise damaged(self._shard.file.path, "has rows that fail their checksum")
        is_whole = len(wanted) == len(rows) and bool((np.diff(wanted) == 1).all())
        return rows if is_whole else rows[wanted - first]


class Delivery:
    """Puts stored rows into their places in a result, as the result's type; for one thread."""

    def __init__(self, out: Features, block_rows: int) -> None:
        self._out = out
        self._widen = widening()
        self._room = np.empty((block_rows, out.shape[1]), dtype=np.float32)

    def __call__(self, rows: Stored, places: Places) -> None:
        """Delivers some rows."""
        if rows.dtype == self._out.dtype:
            self._out[places] = rows
        elif bool((np.diff(places) == 1).all()):
            target = self._out[places[0] : places[0] + len(rows)]
            self._widen(rows.reshape(-1), target.reshape(-1))
        else:
            step = len(self._room)
            for start in range(0, len(rows), step):
                some = rows[start : start + step]
                room = self._room[: len(some)]
                self._widen(some.reshape(-1), room.reshape(-1))
                self._out[places[start : start + step]] = room
