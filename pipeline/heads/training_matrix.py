"""The training rows as one matrix: in memory where there is room for it, and else in a file that is read as needed."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penult.errors import StoreWriteError
from penult.store import Space
from penult.store.features import gather

__all__ = ["memory_bytes", "read_matrix"]

SHARE = 0.4
"""The part of the memory that the rows may take, since the estimator and the machine need some too."""

ROWS = 16_384
"""Rows that are carried to the file at a time."""

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def read_matrix(
    spaces: Sequence[Space], keys: NDArray[np.uint8], folder: Path, *, may_stay_on_disk: bool
) -> tuple[NDArray[np.floating], tuple[str, ...]]:
    """Returns the rows of ``keys`` (n, sum of widths) in all spaces, side by side, and what should be said of it.

    They are float32 in memory, unless that would take too much of it and they ``may_stay_on_disk``: then they lie in
    the precision of the spaces in a file without a name under ``folder``, which is gone when the matrix is.
    """
    width = sum(space.spec.width for space in spaces)
    size, memory = len(keys) * width * 4, memory_bytes()
    if not may_stay_on_disk or memory is None or size <= SHARE * memory:
        return gather(spaces, keys), ()
    dtype = np.dtype(np.float16 if all(space.spec.dtype == "float16" for space in spaces) else np.float32)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            matrix: NDArray[np.floating] = np.memmap(file, dtype, "w+", shape=(len(keys), width))
            for start in range(0, len(keys), ROWS):
                matrix[start : start + ROWS] = gather(spaces, keys[start : start + ROWS])
    except OSError as error:
        raise StoreWriteError(
            f"the training rows, {size / 2e9:.1f} GB, can be held neither in memory nor in {folder}: {error}",
            expected="room on that disk",
            remedy="train on fewer rows, or on a machine with more memory",
        ) from error
    return matrix, (
        f"the training rows would take {size / 1e9:.1f} of {memory / 1e9:.1f} GB of memory, so they are read from "
        "disk as they are needed",
    )


def memory_bytes() -> int | None:
    """Returns how much memory this process can use at all, or None where the system does not tell."""
    known = []
    with suppress(ValueError, OSError, AttributeError):
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(ValueError, OSError):  # "max" where there is no limit
        known.append(int(CGROUP_LIMIT.read_text()))
    return min(known, default=None)
