"""Where each key's row lies: sorted keys in memory, searched many at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penult.store.checksums import Sums
from penult.store.keys import Keys, halves, key_order, repeats

Positions = NDArray[np.int64]
ABSENT = -1


@dataclass(frozen=True)
class KeyTable:
    """Distinct keys in order, and the position of each one's row.

    A position counts rows through all the shards, in the order in which they were given.
    """

    keys: Keys
    high: NDArray[np.uint64]
    positions: Positions

    @classmethod
    def of(cls, keys: Sequence[Keys], sums: Sequence[Sums]) -> Self:
        """Builds the table of several shards' keys.

        Of several rows under one key, the one with the lowest checksum counts: a choice by content alone, so that the
        same rows give the same answer in whatever order or files they lie.
        """
        every = np.concatenate([np.empty((0, 16), np.uint8), *keys])
        order = key_order(every)
        ordered = every[order]
        if repeats(ordered).any():
            high, low = halves(every)
            order = np.lexsort((np.concatenate(sums), low, high))
            is_first = ~repeats(every[order])
            order = order[is_first]
            ordered = every[order]
        return cls(ordered, halves(ordered)[0], order.astype(np.int64))

    def __len__(self) -> int:
        return len(self.positions)

    def find(self, keys: Keys) -> Positions:
        """Returns the position of each key's row, or ABSENT."""
        if not len(self):
            return np.full(len(keys), ABSENT, dtype=np.int64)
        high, low = halves(keys)
        places = np.minimum(np.searchsorted(self.high, high), len(self) - 1)
        found = (self.keys[places] == keys).all(axis=1)
        for i in np.flatnonzero(~found & (self.high[places] == high)):
            # Two keys may share their first half, if only by design.
            end = int(np.searchsorted(self.high, high[i], side="right"))
            rest = halves(self.keys[places[i] : end])[1]
            j = int(np.searchsorted(rest, low[i]))
            if j < len(rest) and rest[j] == low[i]:
                places[i] += j
                found[i] = True
        return np.where(found, self.positions[places], ABSENT)
