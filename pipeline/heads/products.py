"""Products of many rows with few columns, in the shapes that BLAS is quick at.

A BLAS library first copies its operands into an order of its own. With ten columns that takes longer than the product
itself, so OpenBLAS leaves it out for small products; cutting the rows into lanes makes all of them small.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["columns_of_rows", "sums_of_rows"]

SMALL = 1_000_000
"""Up to so many multiplications OpenBLAS copies nothing."""

WIDEST_LANE, NARROWEST_LANE = 32, 16
PANEL = 256
"""Rows whose sums are held at once."""


def columns_of_rows(rows: NDArray[np.float32], slopes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns ``slopes.T @ rows.T`` (C, n) of rows (n, D) and slopes (D, C), contiguous along the rows."""
    lane = _lane(*slopes.shape)
    whole = len(rows) - len(rows) % lane
    if not whole:
        return np.ascontiguousarray((rows @ slopes).T)
    columns = np.empty((slopes.shape[1], len(rows)), np.float32)
    columns[:, :whole] = np.matmul(rows[:whole].reshape(-1, lane, rows.shape[1]), slopes).reshape(whole, -1).T
    columns[:, whole:] = (rows[whole:] @ slopes).T
    return columns


def sums_of_rows(weights: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns ``weights @ rows`` (C, D) of weights (C, n) and rows (n, D)."""
    n_columns, n = weights.shape
    lane = _lane(rows.shape[1], n_columns)
    whole = n - n % lane
    if not whole:
        return weights @ rows
    total = weights[:, whole:] @ rows[whole:]
    for start in range(0, whole, PANEL):
        part = slice(start, min(start + PANEL, whole))
        lanes = weights[:, part].reshape(n_columns, -1, lane).transpose(1, 0, 2)
        total += np.matmul(lanes, rows[part].reshape(-1, lane, rows.shape[1])).sum(axis=0)
    return total


def _lane(width: int, n_columns: int) -> int:
    """Returns how many rows make a small product, or a number beyond any block where that would be too few."""
    fitting = min(WIDEST_LANE, SMALL // (width * n_columns))
    # The sums of each lane are written out, which is less than the rows themselves only where it has more rows.
    if fitting < max(NARROWEST_LANE, n_columns):
        return 1 << 62
    return 1 << (fitting.bit_length() - 1)
