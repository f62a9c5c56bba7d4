"""What is wrong with a dataset though every row is fine: images on two sides of a split, or under two labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.store.keys import Keys
from penult.store.tables.columns import as_column, missing_in


@dataclass(frozen=True)
class Conflict:
    """Rows that should agree, and the values in which they do not."""

    of: Any
    """The key of the image, or the name of the group."""
    values: tuple[Any, ...]
    rows: tuple[int, ...]


def find_leaks(keys: Keys, splits: Sequence[Any] | NDArray[Any]) -> list[Conflict]:
    """Returns the images that stand in more than one split: identical bytes, under whatever names."""
    return _conflicts(_by_key(keys), splits)


def find_contradictions(keys: Keys, labels: Sequence[Any] | NDArray[Any]) -> list[Conflict]:
    """Returns the images that stand under more than one label."""
    return _conflicts(_by_key(keys), labels)


def find_divided_groups(groups: Sequence[Any] | NDArray[Any], splits: Sequence[Any] | NDArray[Any]) -> list[Conflict]:
    """Returns the groups whose rows lie in more than one split."""
    column = as_column(groups, name="group")
    missing = missing_in(column)
    return _conflicts([None if gone else value for value, gone in zip(column.tolist(), missing, strict=True)], splits)


def _by_key(keys: Keys) -> list[bytes | None]:
    """Returns each row's key where another row has the same, else None."""
    _, places, counts = np.unique(keys.view("V16").reshape(-1), return_inverse=True, return_counts=True)
    repeated: list[bytes | None] = [None] * len(keys)
    for row in np.flatnonzero(counts[places] > 1):
        repeated[row] = keys[row].tobytes()
    return repeated


def _conflicts(names: Sequence[Any], values: Sequence[Any] | NDArray[Any]) -> list[Conflict]:
    column = as_column(values)
    rows_of: dict[Any, list[int]] = {}
    for row in np.flatnonzero(~missing_in(column)).tolist():
        if names[row] is not None:
            rows_of.setdefault(names[row], []).append(row)
    conflicts = []
    for name, rows in rows_of.items():
        found = column[rows].tolist()
        if len(set(found)) > 1:
            conflicts.append(Conflict(name, tuple(sorted(set(found))), tuple(rows)))
    return conflicts
