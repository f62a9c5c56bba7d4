"""The differences between two versions of a dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.store.tables.columns import missing_in
from penult.store.tables.table import Table

_Pairs = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Difference:
    """Added, removed, moved and changed rows; each array contains row numbers, old before new."""

    old: Table
    new: Table
    added: NDArray[np.int64]
    removed: NDArray[np.int64]
    moved: NDArray[np.int64]
    """(n, 2) rows of the same image with another path."""
    edited: NDArray[np.int64]
    """(n, 2) rows of another image with the same path."""
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    changed: Mapping[str, NDArray[np.int64]]
    """For each column in both versions with different values, the (n, 2) rows."""

    def summary(self) -> dict[str, Any]:
        """Returns the counts as plain data."""
        return {
            "added": len(self.added),
            "removed": len(self.removed),
            "moved": len(self.moved),
            "edited": len(self.edited),
            "columns_added": list(self.columns_added),
            "columns_removed": list(self.columns_removed),
            "changed": {name: len(rows) for name, rows in self.changed.items()},
        }


def difference(old: Table, new: Table) -> Difference:
    """Compares two tables; matches rows by key and path, then by key, then by path."""
    pairs, moved, edited, left, right = _matched(old, new)
    changed = {
        name: rows
        for name in new.columns
        if name in old.columns
        and len(rows := pairs[_differs(old.columns[name][pairs[:, 0]], new.columns[name][pairs[:, 1]])])
    }
    return Difference(
        old,
        new,
        added=np.array(right, np.int64),
        removed=np.array(left, np.int64),
        moved=moved,
        edited=edited,
        columns_added=tuple(name for name in new.columns if name not in old.columns),
        columns_removed=tuple(name for name in old.columns if name not in new.columns),
        changed=changed,
    )


def _matched(old: Table, new: Table) -> tuple[_Pairs, _Pairs, _Pairs, list[int], list[int]]:
    if np.array_equal(old.keys, new.keys) and old.paths == new.paths:
        rows = np.arange(len(old))
        return np.stack([rows, rows], axis=1), _pairs([]), _pairs([]), [], []
    old_keys, new_keys = old.key_bytes(), new.key_bytes()
    old_rows = list(zip(old_keys, old.paths, strict=True))
    new_rows = list(zip(new_keys, new.paths, strict=True))
    same, left, right = _match(old_rows, list(range(len(old))), new_rows, list(range(len(new))))
    moved, left, right = _match(old_keys, left, new_keys, right)
    edited, left, right = _match(old.paths, left, new.paths, right)
    every = sorted(same + moved + edited, key=lambda pair: pair[1])
    return _pairs(every), _pairs(moved), _pairs(edited), left, right


def _match(old: Any, left: list[int], new: Any, right: list[int]) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    places: dict[Any, list[int]] = {}
    for row in reversed(left):
        places.setdefault(old[row], []).append(row)
    pairs, unmatched = [], []
    for row in right:
        if waiting := places.get(new[row]):
            pairs.append((waiting.pop(), row))
        else:
            unmatched.append(row)
    return pairs, sorted(row for rows in places.values() for row in rows), unmatched


def _differs(old: NDArray[Any], new: NDArray[Any]) -> NDArray[np.bool_]:
    both_missing = missing_in(old) & missing_in(new)
    return np.asarray(old != new, np.bool_) & ~both_missing


def _pairs(pairs: list[tuple[int, int]]) -> _Pairs:
    return np.array(pairs, np.int64).reshape(-1, 2)
