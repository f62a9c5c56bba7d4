"""Finds images in several splits or with several labels, which no single row shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.store.keys import Keys, key_scalars
from penult.store.tables.columns import as_column, missing_in


@dataclass(frozen=True)
class Conflict:
    """Rows of one image that should have one value, and their different values."""

    of: bytes
    """The key of the image."""
    values: tuple[Any, ...]
    rows: tuple[int, ...]


def find_leaks(keys: Keys, splits: Sequence[Any] | NDArray[Any]) -> list[Conflict]:
    """Returns the images that are in more than one split: files with identical bytes under any names."""
    return _conflicts(keys, splits)


def find_contradictions(keys: Keys, labels: Sequence[Any] | NDArray[Any]) -> list[Conflict]:
    """Returns the images that have more than one label."""
    return _conflicts(keys, labels)


def _conflicts(keys: Keys, values: Sequence[Any] | NDArray[Any]) -> list[Conflict]:
    column = as_column(values)
    _, places, counts = np.unique(key_scalars(keys), return_inverse=True, return_counts=True)
    rows_of: dict[bytes, list[int]] = {}
    for row in np.flatnonzero((counts[places] > 1) & ~missing_in(column)).tolist():
        rows_of.setdefault(keys[row].tobytes(), []).append(row)
    conflicts = []
    for key, rows in rows_of.items():
        found = set(column[rows].tolist())
        if len(found) > 1:
            conflicts.append(Conflict(key, tuple(sorted(found)), tuple(rows)))
    return conflicts
