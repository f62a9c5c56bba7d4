"""Shards in a fixed order, so that one number says where a row lies."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from penult.store.keys import halves
from penult.store.shards.checksums import Sums
from penult.store.shards.key_table import EMPTY_TABLE, KeyTable, Positions
from penult.store.shards.shard import rows_of
from penult.store.spaces.space_folder import SpaceFolder


class ShardList:
    """Some shards of a space; a position counts the rows through all of them."""

    def __init__(self, folder: SpaceFolder, names: Sequence[str], starts: NDArray[np.int64] | None = None) -> None:
        self.folder = folder
        self.names = tuple(names)
        known = np.zeros(1, dtype=np.int64) if starts is None else starts
        rows = np.fromiter(map(rows_of, self.names[len(known) - 1 :]), dtype=np.int64)
        self.starts = np.concatenate([known, known[-1] + np.cumsum(rows)])

    @property
    def rows(self) -> int:
        """How many rows the shards hold, hidden ones too."""
        return int(self.starts[-1])

    def table(self, known: KeyTable = EMPTY_TABLE, first: int = 0) -> KeyTable:
        """Returns the ``known`` keys and those of the shards from the ``first`` on, with where their rows lie."""
        highs, lows = [known.high], [known.low]
        for name in self.names[first:]:
            with self.folder.open_shard(name) as shard:
                high, low = halves(shard.keys())
            highs.append(high)
            lows.append(low)
        added = np.arange(self.starts[first], self.rows)
        return KeyTable.of(
            np.concatenate(highs), np.concatenate(lows), np.concatenate([known.positions, added]), self.sums_at
        )

    def split(self, positions: Positions) -> Iterator[tuple[str, Positions, NDArray[np.intp]]]:
        """Groups positions by shard: its name, the rows in it in order, and where among the positions they stand."""
        order = np.argsort(positions, kind="stable")
        ordered = positions[order]
        cuts = np.searchsorted(ordered, self.starts)
        if cuts[0] != 0 or cuts[-1] != len(positions):
            raise AssertionError("a position lies outside of the shards")
        for i in np.flatnonzero(np.diff(cuts)):
            part = slice(cuts[i], cuts[i + 1])
            yield self.names[i], ordered[part] - self.starts[i], order[part]

    def sums_at(self, positions: Positions) -> Sums:
        """Reads the checksums of some rows."""
        sums = np.zeros(len(positions), dtype=np.uint64)
        for name, rows, places in self.split(positions):
            with self.folder.open_shard(name) as shard:
                sums[places] = shard.row_sums()[rows]
        return sums
