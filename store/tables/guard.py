"""Keeps a class from lying wholly on one side of a split, where chance would have it so."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.store.tables.columns import missing_in

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Classes:
    """Which units (samples, or groups of them) have rows of which class, each pair once."""

    count: int
    of_pair: Numbers
    units: Numbers

    @classmethod
    def of(cls, labels: NDArray[Any], unit_of_row: Numbers) -> "Classes":
        """Numbers the classes in the order of their names, so that the order of the rows does not matter."""
        rows = np.flatnonzero(~missing_in(labels))
        values = labels[rows].tolist()
        numbers = {value: number for number, value in enumerate(sorted(set(values)))}
        codes = np.array([numbers[value] for value in values], np.int64)
        pairs = np.unique(np.stack([codes, unit_of_row[rows]], axis=1), axis=0)
        return cls(len(numbers), pairs[:, 0], pairs[:, 1])


def balance(
    sides: Numbers,
    classes: Classes,
    *,
    positions: NDArray[np.float64],
    ends: NDArray[np.float64],
    is_fixed: NDArray[np.bool_],
) -> None:
    """Moves units in place, until each class has one on each side or as many sides as it has units.

    Where there are fewer units than sides, the larger sides come first. No unit moves that is fixed, or that another
    class needs where it is; of the others, the one whose position is nearest to the side that lacks one.
    """
    starts = np.concatenate([[0.0], ends[:-1]])
    order = np.lexsort((-np.arange(len(ends)), -(ends - starts).round(9)))
    counts = np.zeros((classes.count, int(max(sides.max(initial=0) + 1, len(ends)))), np.int64)
    np.add.at(counts, (classes.of_pair, sides[classes.units]), 1)
    sizes = np.bincount(classes.of_pair, minlength=classes.count)
    needs = np.zeros_like(counts, np.bool_)
    for rank, side in enumerate(order):
        needs[:, side] = rank < sizes
    by_unit = np.argsort(classes.units, kind="stable")
    for lacking in np.flatnonzero((needs & (counts == 0)).any(axis=1)):
        members = classes.units[classes.of_pair == lacking]
        for side in order[needs[lacking, order] & (counts[lacking, order] == 0)]:
            distance = np.maximum(starts[side] - positions[members], positions[members] - ends[side])
            for unit in members[np.lexsort((positions[members], distance))]:
                low, high = np.searchsorted(classes.units[by_unit], [unit, unit + 1])
                own = classes.of_pair[by_unit[low:high]]
                is_needed = needs[own, sides[unit]] & (counts[own, sides[unit]] == 1)
                if not is_fixed[unit] and not is_needed.any():
                    counts[own, sides[unit]] -= 1
                    counts[own, side] += 1
                    sides[unit] = side
                    break
