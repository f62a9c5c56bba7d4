"""Passes over all rows of a feature matrix in blocks that fit a cache, on as many threads as are worth it."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

__all__ = ["BLOCK", "Matrix", "calm_blas", "map_stretches", "standardised"]

Matrix = NDArray[np.floating]
Result = TypeVar("Result")

BLOCK = 2048
"""Rows that are worked on at once: few enough for the cache that cores share, enough for the products to be quick."""

STRETCHES = 16
"""Parts that a pass is cut into whatever the cores, so that sums round alike on one core and on many."""


@contextmanager
def calm_blas(threads: int = 1) -> Iterator[None]:
    """Holds the BLAS libraries to ``threads`` threads: on small products several mostly wait for each other."""
    with _libraries(len(sys.modules)).limit(limits=threads, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:
    """Finds the libraries that have threads, anew where modules were imported since: small heads take less long."""
    return ThreadpoolController()


def map_stretches(rows: int, task: Callable[[list[slice]], Result], *, threads: int = 1) -> list[Result]:
    """Returns ``task(blocks)`` of every stretch, in order; each stretch is a list of slices of ``BLOCK`` rows."""
    blocks = [slice(start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK)]
    length = max(1, -(-len(blocks) // STRETCHES))
    stretches = [blocks[i : i + length] for i in range(0, len(blocks), length)]
    if threads == 1 or len(stretches) == 1:
        return [task(stretch) for stretch in stretches]
    with ThreadPoolExecutor(min(threads, len(stretches))) as pool:
        return list(pool.map(task, stretches))


def standardised(features: Matrix, mean: Matrix, scale: Matrix) -> NDArray[np.float32]:
    """Returns a float32 copy of ``features`` with ``mean`` taken off and ``scale`` divided out, column by column."""
    copy = np.empty(features.shape, np.float32)
    shift = mean.astype(features.dtype if features.dtype.itemsize > 4 else np.float32)
    factor = (1 / scale).astype(np.float32)
    for start in range(0, len(features), BLOCK):
        part = slice(start, start + BLOCK)
        np.subtract(features[part], shift, out=copy[part], casting="same_kind")
        copy[part] *= factor
    return copy
