"""Passes over the rows of a feature matrix in blocks that fit into the CPU cache."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

__all__ = ["BLOCK", "Matrix", "limit_blas_threads", "map_chunks", "standardised"]

Matrix = NDArray[np.floating]
Result = TypeVar("Result")

BLOCK = 2048
"""Rows per block: few enough for the shared cache, and enough for fast matrix products."""

CHUNKS = 16
"""Chunks per pass, whatever the number of cores, so that sums round equally on one core and on many."""


@contextmanager
def limit_blas_threads(threads: int = 1) -> Iterator[None]:
    """Limits BLAS libraries to ``threads`` threads; on small products more threads mostly wait for each other."""
    with _libraries(len(sys.modules)).limit(limits=threads, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:
    """Finds the loaded BLAS libraries; the slow search is repeated only when new modules were imported."""
    return ThreadpoolController()


def map_chunks(rows: int, task: Callable[[list[slice]], Result], *, threads: int = 1) -> list[Result]:
    """Returns ``task(blocks)`` of each chunk in order; a chunk is a list of slices of ``BLOCK`` rows."""
    blocks = [slice(start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK)]
    length = max(1, -(-len(blocks) // CHUNKS))
    chunks = [blocks[i : i + length] for i in range(0, len(blocks), length)]
    if threads == 1 or len(chunks) == 1:
        return [task(chunk) for chunk in chunks]
    with ThreadPoolExecutor(min(threads, len(chunks))) as pool:
        return list(pool.map(task, chunks))


def standardised(features: Matrix, mean: Matrix, scale: Matrix) -> NDArray[np.float32]:
    """Returns ``(features - mean) / scale`` as a float32 copy."""
    copy = np.empty(features.shape, np.float32)
    shift = mean.astype(features.dtype if features.dtype.itemsize > 4 else np.float32)
    factor = (1 / scale).astype(np.float32)
    for start in range(0, len(features), BLOCK):
        part = slice(start, start + BLOCK)
        np.subtract(features[part], shift, out=copy[part], casting="same_kind")
        copy[part] *= factor
    return copy
