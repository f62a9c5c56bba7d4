"""The checksums of a shard: one for each row, bound to its key, and one for each block, for fast full reads."""

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from penult.store.keys import Keys, halves

BLOCK_BYTES = 1 << 18

Sums = NDArray[np.uint64]
Stored = NDArray[np.floating[Any]]


def rows_per_block(row_bytes: int) -> int:
    """Returns the rows of a block: the largest power of two that fits into 256 KiB.

    >>> rows_per_block(2560), rows_per_block(2), rows_per_block(1 << 20)
    (64, 131072, 1)
    """
    return 1 << max((BLOCK_BYTES // row_bytes).bit_length() - 1, 0)


def row_sums(keys: Keys, rows: Stored) -> Sums:
    """Returns the XXH3 of each row, seeded with its key: a row under a wrong key fails like a changed row."""
    high, low = halves(keys)
    seeds = (high ^ low).tolist()
    buffers = cast("Iterable[memoryview]", rows)  # hashing a row is twice as fast as hashing its memoryview
    return np.fromiter((xxh3_64_intdigest(row, seed) for row, seed in zip(buffers, seeds, strict=True)), np.uint64)


def block_sum(keys: Keys, rows: Stored) -> int:
    """Returns the XXH3 of a block's rows, seeded with the XXH3 of its keys."""
    return xxh3_64_intdigest(rows.data, xxh3_64_intdigest(keys.data))


def block_sums(keys: Keys, rows: Stored) -> Sums:
    """Returns the checksums of all blocks of a shard."""
    step = rows_per_block(rows.shape[1] * rows.itemsize)
    starts = range(0, len(rows), step)
    return np.fromiter((block_sum(keys[i : i + step], rows[i : i + step]) for i in starts), np.uint64)
