"""Finding rows: by the index where there is one, and by the keys of the shards that came after it."""

from typing import Self

import numpy as np

from penult.store.keys import Keys, halves
from penult.store.spaces.index import Index
from penult.store.spaces.indexing import open_index
from penult.store.spaces.keytable import ABSENT, EMPTY_TABLE, KeyTable, Positions
from penult.store.spaces.shardlist import ShardList
from penult.store.spaces.spacefolder import SpaceFolder


class Lookup:
    """Where the row of each key lies, for one set of live shards."""

    def __init__(self, shards: ShardList, index: Index | None, recent: KeyTable) -> None:
        self.shards = shards
        self._index = index
        self._recent = recent
        self._live = frozenset(shards.names)

    @classmethod
    def of(cls, folder: SpaceFolder, live: frozenset[str], before: Self | None = None) -> Self:
        """Builds the lookup of the ``live`` shards, from that of ``before`` if the shards have only grown."""
        if before is None or not before._live <= live:
            index = open_index(folder, live)
            before = cls(ShardList(folder, index.shards if index else ()), index, EMPTY_TABLE)
        added = sorted(live - before._live)
        if not added:
            return before
        shards = ShardList(folder, before.shards.names + tuple(added), before.shards.starts)
        return cls(shards, before._index, shards.table(before._recent, len(before.shards.names)))

    def find(self, keys: Keys) -> Positions:
        """Returns the position of each key's row, or ABSENT."""
        high, low = halves(keys)
        found = self._recent.find(high, low)
        if self._index is None:
            return found
        indexed = self._index.find(high, low)
        in_both = np.flatnonzero((found != ABSENT) & (indexed != ABSENT))
        if len(in_both):
            is_lower = self.shards.sums_at(indexed[in_both]) <= self.shards.sums_at(found[in_both])
            found[in_both[is_lower]] = ABSENT
        return np.where(found == ABSENT, indexed, found)

    def everything(self) -> KeyTable:
        """Returns all keys, and the positions of their rows."""
        if self._index is None:
            return self._recent
        tables = [*self._index.tables(), self._recent]
        return KeyTable.of(
            np.concatenate([table.high for table in tables]),
            np.concatenate([table.low for table in tables]),
            np.concatenate([table.positions for table in tables]),
            self.shards.sums_at,
        )

    def count(self) -> int:
        """Returns how many keys have a row; young keys must be looked up for it, so it is no ``__len__``."""
        if self._index is None:
            return len(self._recent)
        in_both = self._index.find(self._recent.high, self._recent.low) != ABSENT
        return len(self._index) + len(self._recent) - int(in_both.sum())
