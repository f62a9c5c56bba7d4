"""Where each key's row lies: sorted keys, searched many at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penult.store.keys import NO_KEYS, Halves, Keys, joined, order_of, repeats
from penult.store.shards.checksums import Sums

Positions = NDArray[np.int64]
"""Rows, counted through all the shards in the order in which they stand in a list."""

ABSENT = -1
SumsAt = Callable[[Positions], Sums]


def search(high: Halves, low: Halves, wanted_high: Halves, wanted_low: Halves) -> NDArray[np.intp]:
    """Returns where each wanted key stands among the sorted ones, the first of equal ones, or ABSENT."""
    places = np.searchsorted(high, wanted_high)
    inside = np.minimum(places, len(high) - 1)
    while True:
        # Two keys with the same first half and another second one are rare, but possible.
        is_before = (high[inside] == wanted_high) & (low[inside] < wanted_low) & (inside < len(high) - 1)
        if not is_before.any():
            break
        inside[is_before] += 1
    return np.where((high[inside] == wanted_high) & (low[inside] == wanted_low), inside, ABSENT)


@dataclass(frozen=True)
class KeyTable:
    """Distinct keys in order, and the position of each one's row."""

    high: Halves
    low: Halves
    positions: Positions

    @classmethod
    def of(cls, high: Halves, low: Halves, positions: Positions, sums_at: SumsAt) -> Self:
        """Sorts keys, of which some may be equal.

        Of several rows under one key, the one with the lowest checksum counts: a choice by content alone, so that the
        same rows give the same answer in whatever order or files they lie.
        """
        order = order_of(high, low)
        high, low, positions = high[order], low[order], positions[order]
        again = repeats(high, low)
        if again.any():
            in_question = again.copy()
            in_question[:-1] |= again[1:]
            sums = np.zeros(len(high), dtype=np.uint64)
            sums[in_question] = sums_at(positions[in_question])
            order = np.lexsort((sums, low, high))
            order = order[~repeats(high[order], low[order])]
            high, low, positions = high[order], low[order], positions[order]
        return cls(high, low, positions)

    def __len__(self) -> int:
        return len(self.positions)

    def keys(self) -> Keys:
        """Returns the keys, sorted."""
        return joined(self.high, self.low)

    def find(self, high: Halves, low: Halves) -> Positions:
        """Returns the position of each key's row, or ABSENT."""
        if not len(self):
            return np.full(len(high), ABSENT, dtype=np.int64)
        places = search(self.high, self.low, high, low)
        return np.where(places == ABSENT, ABSENT, self.positions[places])


EMPTY_TABLE = KeyTable(NO_KEYS, NO_KEYS, np.empty(0, dtype=np.int64))
