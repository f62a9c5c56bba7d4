"""Reading rows: every byte that is returned has passed a checksum bound to its key."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.store.cast import PIECE, widen
from penult.store.checksums import Stored, block_sum
from penult.store.container import damaged
from penult.store.keytable import Positions
from penult.store.shards import Shard, ShardName, stored_rows
from penult.store.spec import SpaceSpec

Features = NDArray[np.floating[Any]]


def read_rows(
    folder: Path, spec: SpaceSpec, shards: Sequence[ShardName], positions: Positions, *, out: Features, verify: bool
) -> None:
    """Fills ``out`` with the rows at ``positions``, in their order."""
    bounds = np.cumsum([0, *(name.rows for name in shards)])
    order = np.argsort(positions, kind="stable")
    ordered = positions[order]
    cuts = np.searchsorted(ordered, bounds)
    for i, name in enumerate(shards):
        places = order[cuts[i] : cuts[i + 1]]
        if len(places):
            with Shard.open(folder, name, spec) as shard:
                _read_shard(shard, spec, positions[places] - bounds[i], places, out, verify)


def _read_shard(
    shard: Shard, spec: SpaceSpec, wanted: Positions, places: NDArray[np.intp], out: Features, verify: bool
) -> None:
    keys, sums, step = shard.keys(), shard.block_sums(), shard.block_rows
    room, scratch = stored_rows(spec, step), np.empty(PIECE, np.int32)
    blocks = wanted // step
    starts = np.flatnonzero(np.diff(blocks, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(wanted)], strict=True):
        block = int(blocks[start])
        first = block * step
        rows = room[: min(step, shard.name.rows - first)]
        shard.read_rows(first, rows)
        if verify and block_sum(keys[first : first + len(rows)], rows) != sums[block]:
            raise damaged(shard.file.path, "has rows that fail their checksum")
        _deliver(rows[wanted[start:end] - first], out, places[start:end], scratch)


def _deliver(rows: Stored, out: Features, places: NDArray[np.intp], scratch: NDArray[np.int32]) -> None:
    if rows.dtype == out.dtype:
        out[places] = rows
        return
    wide = np.empty(rows.shape, np.float32)
    widen(rows.reshape(-1).view(np.float16), wide.reshape(-1), scratch)
    out[places] = wide
