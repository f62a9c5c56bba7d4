"""Batches whose rows follow from their keys, so that every row can be checked by itself."""

from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penult.errors import StoreError
from penult.store import Space, SpaceSpec, key_array, key_of, open_store

WIDTH = 3
BATCH_ROWS = 4
SPEC = SpaceSpec("lite0", "ab" * 32, "penultimate", WIDTH)


def keys_of(batch: int, rows: int = BATCH_ROWS) -> NDArray[np.uint8]:
    """Returns the keys of a batch."""
    return key_array([key_of(f"{batch}/{row}".encode()) for row in range(rows)])


def rows_of(keys: NDArray[np.uint8], width: int = WIDTH) -> NDArray[np.float32]:
    """Returns the rows that belong to keys, exact in float16."""
    digests = (sha256(key.tobytes()).digest() for key in keys)
    numbers = [np.frombuffer((digest * width)[: 2 * width], np.int16) for digest in digests]
    return (np.array(numbers, dtype=np.float32).reshape(-1, width) // 32) / np.float32(64)


def add(space: Space, batch: int, rows: int = BATCH_ROWS) -> None:
    """Adds a batch."""
    keys = keys_of(batch, rows)
    space.add(keys, rows_of(keys))


def batches_in(space: Space, batches: int = 6) -> set[int]:
    """Reads a space in every way and returns its batches; fails if one is wrong or incomplete."""
    everything = space.load()
    found = {key.tobytes() for key in everything.keys}
    if not np.array_equal(everything.features, rows_of(everything.keys)):
        raise AssertionError("a row is wrong")
    if len(found) != len(everything) or len(space) != len(found):
        raise AssertionError(f"{len(everything)} rows, {len(found)} keys, and a length of {len(space)}")
    whole = {batch for batch in range(batches) if {key.tobytes() for key in keys_of(batch)} <= found}
    if len(found) != BATCH_ROWS * len(whole):
        raise AssertionError(f"{len(found)} rows do not make {len(whole)} batches")
    for batch in range(batches):
        keys = keys_of(batch)
        if len(space.missing(keys)) != (0 if batch in whole else len(keys)):
            raise AssertionError(f"batch {batch} is missing in part")
        if batch in whole and not np.array_equal(space.gather(keys[::-1]), rows_of(keys[::-1])):
            raise AssertionError(f"batch {batch} is gathered wrongly")
    return whole


def batches_at(path: Path) -> set[int]:
    """Opens a store again and returns its batches; a store that was never made has none."""
    try:
        store = open_store(path, create=False)
    except (FileNotFoundError, StoreError):
        return set()
    spaces = store.spaces()
    return batches_in(spaces[0]) if spaces else set()
