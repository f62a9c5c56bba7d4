"""Reads rows in threads and verifies each against a checksum that is bound to its key."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from penult.cores import usable_cores
from penult.store.keys import KEY_BYTES, Keys, halves
from penult.store.shards.cast import widening
from penult.store.shards.checksums import Stored
from penult.store.shards.container import damaged
from penult.store.shards.key_table import Positions
from penult.store.shards.shard import Shard, empty_rows
from penult.store.spaces.space_folder import ShardList
from penult.store.spec import SpaceSpec

ROW_COST_BYTES = 1 << 14
"""The extra cost of reading a single row, as the bytes of a sequential read in the same time."""

TASK_BYTES = 1 << 24
THREADS_LIMIT = 8

Features = NDArray[np.floating[Any]]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Destination:
    """The output array, the key of each of its rows, and whether checksums are verified."""

    keys: Keys
    out: Features
    is_checking: bool


class ReadTask:
    """Sorted rows of an open shard and their places in the output, for one thread."""

    def __init__(self, shard: Shard, spec: SpaceSpec, rows: Positions, places: Places, to: Destination) -> None:
        self._shard = shard
        self._spec = spec
        self._rows = rows
        self._places = places
        self._to = to
        self._widen = widening()
        self._buffer = empty_rows(spec, shard.block_rows)
        self._wide = np.empty(self._buffer.shape, dtype=np.float32)
        # Counts the jumps in the rows and in their places: a range without a jump is a plain slice.
        self._row_steps = np.cumsum(np.diff(rows, prepend=rows[0] - 1) != 1)
        self._place_steps = np.cumsum(np.diff(places, prepend=places[0] - 1) != 1)

    def run(self) -> None:
        """Reads the rows."""
        size, block_rows = self._spec.row_bytes, self._shard.block_rows
        starts = np.flatnonzero(np.diff(self._rows // block_rows, prepend=-1))
        counts = np.diff(starts, append=len(self._rows))
        is_dense = counts * (size + ROW_COST_BYTES) >= block_rows * size
        if is_dense.any():
            self._read_blocks(starts[is_dense], (starts + counts)[is_dense])
        sparse = np.flatnonzero(np.repeat(~is_dense, counts))
        if len(sparse):
            self._read_singly(self._rows[sparse], self._places[sparse])

    def _read_blocks(self, starts: NDArray[np.intp], ends: NDArray[np.intp]) -> None:
        step, total = self._shard.block_rows, self._shard.rows
        blocks = (self._rows[starts] // step).tolist()
        check = BlockCheck(self._shard, blocks[0], blocks[-1] + 1) if self._to.is_checking else None
        are_runs = (self._row_steps[ends - 1] == self._row_steps[starts]).tolist()
        go_together = (self._place_steps[ends - 1] == self._place_steps[starts]).tolist()
        offsets, places = (self._rows[starts] % step).tolist(), self._places[starts].tolist()
        # Plain integers in one loop: the interpreter lock is held only between the long steps, so every step counts.
        for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            first, count = blocks[i] * step, end - start
            rows = self._buffer if first + step <= total else self._buffer[: total - first]
            self._shard.read_rows(first, rows)
            if check:
                check(blocks[i], rows)
            if are_runs[i]:
                chosen = rows if count == len(rows) else rows[offsets[i] : offsets[i] + count]
            else:
                chosen = rows[self._rows[start:end] - first]
            self._put(chosen, slice(places[i], places[i] + count) if go_together[i] else self._places[start:end])

    def _read_singly(self, rows: Positions, places: Places) -> None:
        file, size = self._shard.file, self._spec.row_bytes
        start = file.layout.sections["features"].offset
        pieces = file.read_pieces(size, [start + row * size for row in rows.tolist()])
        data = b"".join(pieces)
        if self._to.is_checking:
            high, low = halves(self._to.keys[places])
            sums = list(map(xxh3_64_intdigest, pieces, (high ^ low).tolist()))
            if sums != self._shard.row_sums(int(rows[0]), int(rows[-1]) + 1)[rows - rows[0]].tolist():
                raise damaged(file.path, "has rows that fail their checksum")
        array: Stored = np.frombuffer(data, dtype=self._spec.stored_type).reshape(-1, self._spec.width)
        step = len(self._buffer)
        for at in range(0, len(rows), step):
            self._put(array[at : at + step], places[at : at + step])

    def _put(self, rows: Stored, places: slice | Places) -> None:
        out = self._to.out
        if rows.dtype == out.dtype:
            out[places] = rows
        elif isinstance(places, slice):
            self._widen(rows.reshape(-1).view(np.float16), out[places].reshape(-1))
        else:
            wide = self._wide[: len(rows)]
            self._widen(rows.reshape(-1).view(np.float16), wide.reshape(-1))
            out[places] = wide


class BlockCheck:
    """Verifies blocks of a shard, from one block number up to another."""

    def __init__(self, shard: Shard, first: int, end: int) -> None:
        self._file = shard.file
        self._first = first
        self._step = shard.block_rows
        self._keys = shard.file.array("keys", first * self._step, min(end * self._step, shard.rows)).data.cast("B")
        self._sums = shard.file.array("block_xxh3", first, end).tolist()

    def __call__(self, block: int, rows: Stored) -> None:
        """Raises an error unless the rows match the checksum of the block."""
        at = (block - self._first) * self._step * KEY_BYTES
        seed = xxh3_64_intdigest(self._keys[at : at + len(rows) * KEY_BYTES])
        if xxh3_64_intdigest(rows.data, seed) != self._sums[block - self._first]:
            raise damaged(self._file.path, "has rows that fail their checksum")


class Reader:
    """Fills ``out`` with the rows of ``keys``; the number of threads does not change the result."""

    def __init__(self, shards: ShardList, keys: Keys, out: Features, *, is_checking: bool = True) -> None:
        self._shards = shards
        self._to = Destination(keys, out, is_checking)

    def read(self, positions: Positions) -> None:
        """Reads the rows at ``positions``, one for each key."""
        tasks = list(self._tasks(positions))
        workers = min(usable_cores(), THREADS_LIMIT, len(tasks))
        if workers <= 1:
            for task in tasks:
                self._run(*task)
            return
        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(self._run, *task) for task in tasks]:
                done.result()

    def _tasks(self, positions: Positions) -> Iterator[tuple[str, Positions, Places]]:
        step = max(TASK_BYTES // self._shards.folder.spec.row_bytes, 1)
        for name, rows, places in self._shards.split(positions):
            for start in range(0, len(rows), step):
                yield name, rows[start : start + step], places[start : start + step]

    def _run(self, name: str, rows: Positions, places: Places) -> None:
        with self._shards.folder.open_shard(name) as shard:
            ReadTask(shard, self._shards.folder.spec, rows, places, self._to).run()
