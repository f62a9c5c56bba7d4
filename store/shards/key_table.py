"""A table of sorted keys and the positions of their rows, for looking up many keys at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penult.store.keys import NO_KEYS, Halves, Keys, joined, order_of, repeats
from penult.store.shards.checksums import Sums

Positions = NDArray[np.int64]
"""Row numbers that count through all shards of a list."""

ABSENT = -1
SumsAt = Callable[[Positions], Sums]


def search(high: Halves, low: Halves, wanted_high: Halves, wanted_low: Halves) -> NDArray[np.intp]:
    """Returns the place of each wanted key among the sorted keys (the first of equal ones), or ABSENT."""
    places = np.searchsorted(high, wanted_high)
    inside = np.minimum(places, len(high) - 1)
    while True:
        # Two keys with equal first halves are rare, but possible.
        is_before = (high[inside] == wanted_high) & (low[inside] < wanted_low) & (inside < len(high) - 1)
        if not is_before.any():
            break
        inside[is_before] += 1
    return np.where((high[inside] == wanted_high) & (low[inside] == wanted_low), inside, ABSENT)


@dataclass(frozen=True)
class KeyTable:
    """Sorted distinct keys, and the position of the row of each."""

    high: Halves
    low: Halves
    positions: Positions

    @classmethod
    def of(cls, high: Halves, low: Halves, positions: Positions, sums_at: SumsAt) -> Self:
        """Sorts keys, some of which may be equal.

        Of several rows under one key, the one with the lowest checksum counts. This depends only on the content, so
        equal rows give equal results in any order and in any files.
        """
        order = order_of(high, low)
        high, low, positions = high[order], low[order], positions[order]
        is_repeat = repeats(high, low)
        if is_repeat.any():
            is_ambiguous = is_repeat.copy()
            is_ambiguous[:-1] |= is_repeat[1:]
            sums = np.zeros(len(high), dtype=np.uint64)
            sums[is_ambiguous] = sums_at(positions[is_ambiguous])
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
