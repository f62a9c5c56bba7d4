"""The training rows as one matrix, in memory if it is large enough, otherwise in a temporary file."""

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

__all__ = ["read_matrix", "usable_memory_bytes"]

SHARE = 0.4
"""The share of the memory that the rows may use; the estimator and other processes need the rest."""

ROWS = 16_384
"""Rows that are copied to the file at a time."""

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def read_matrix(
    spaces: Sequence[Space], keys: NDArray[np.uint8], folder: Path, *, may_stay_on_disk: bool
) -> tuple[NDArray[np.floating], tuple[str, ...]]:
    """Returns the rows of ``keys`` in all spaces, concatenated (n, sum of widths), and notes for the user.

    The rows are float32 in memory. If they are too large and ``may_stay_on_disk``, they are in the precision of the
    spaces in a nameless temporary file in ``folder``, which the system deletes with the matrix.
    """
    width = sum(space.spec.width for space in spaces)
    size, memory = len(keys) * width * 4, usable_memory_bytes()
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
            f"the training rows, {size / 2e9:.1f} GB, fit neither in memory nor on the disk of {folder}: {error}",
            expected="free space on that disk",
            remedy="train on fewer rows, or on a machine with more memory",
        ) from error
    return matrix, (
        f"the training rows would take {size / 1e9:.1f} of {memory / 1e9:.1f} GB of memory, so they are read from "
        "disk as needed",
    )


def usable_memory_bytes() -> int | None:
    """Returns the memory that this process may use, in bytes, or None if the system does not report it."""
    known = []
    with suppress(ValueError, OSError, AttributeError):
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(ValueError, OSError):  # "max" if there is no limit
        known.append(int(CGROUP_LIMIT.read_text()))
    return min(known, default=None)
