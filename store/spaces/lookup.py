"""Finds the rows of keys, through the index and through the keys of the shards that are newer than it."""

from collections.abc import Iterator
from typing import Self

import numpy as np
from xxhash import xxh3_64_intdigest

from penult.errors import StoreDamagedError, StoreFormatError
from penult.store.keys import NO_KEYS, Keys, halves
from penult.store.shards.container import damaged
from penult.store.shards.key_table import ABSENT, EMPTY_TABLE, KeyTable, Positions
from penult.store.shards.shard import rows_of
from penult.store.spaces import index
from penult.store.spaces.index import Index
from penult.store.spaces.manifests import Manifest
from penult.store.spaces.space_folder import ShardList, SpaceFolder

WORTH_ROWS = 1 << 16
STALE_SHARE = 8
STALE_SHARDS = 128
RANGE_KEYS = 1 << 20


class Lookup:
    """The positions of the rows of all keys, for one set of live shards."""

    def __init__(self, shards: ShardList, index: Index | None, recent: KeyTable) -> None:
        self.shards = shards
        self._index = index
        self._recent = recent
        self._live = frozenset(shards.names)

    @classmethod
    def of(cls, folder: SpaceFolder, live: frozenset[str], before: Self | None = None) -> Self:
        """Builds the lookup of the ``live`` shards; extends ``before`` if shards were only added."""
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

    def table(self) -> KeyTable:
        """Returns all keys and the positions of their rows."""
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
        """Returns the number of distinct keys; it looks up recent keys in the index, so it is not ``__len__``."""
        if self._index is None:
            return len(self._recent)
        in_both = self._index.find(self._recent.high, self._recent.low) != ABSENT
        return len(self._index) + len(self._recent) - int(in_both.sum())


def open_index(folder: SpaceFolder, live: frozenset[str]) -> Index | None:
    """Opens the newest index whose shards are all live; skips a damaged one, because an index is only derived."""
    numbers = sorted((name for name in folder.index.names() if index.NAME.fullmatch(name)), reverse=True)
    for name in numbers:
        try:
            found = Index.open(folder.index_file(name), folder.spec.id)
        except (FileNotFoundError, StoreDamagedError, StoreFormatError):
            continue
        if live.issuperset(found.shards):
            return found
    return None


def refresh_index(folder: SpaceFolder, manifest: Manifest) -> None:
    """Writes an index of a manifest's shards if the current index lacks many of their rows."""
    shards = ShardList(folder, sorted(manifest.shards))
    if shards.rows < WORTH_ROWS:
        return
    present = open_index(folder, manifest.shards)
    # The limit grows with the space; a fixed number would rebuild the index of a growing space ever more often.
    if present and len(shards.names) - len(present.shards) <= max(STALE_SHARDS, len(present.shards) // STALE_SHARE):
        unknown = manifest.shards.difference(present.shards)
        if sum(map(rows_of, unknown)) < shards.rows // STALE_SHARE:
            return
    parts = index.index_parts(folder.spec.id, shards.names, shards.rows, sorted_tables(shards))
    try:
        temporary = folder.write(".h5", parts)
    except FileNotFoundError:
        return  # a shard was removed, so there is a newer manifest, and its writer makes the index
    newest = index.file_name(manifest.number)
    if not folder.index.is_dir():
        folder.index.make_folder()
    (folder.index / newest).publish(temporary)
    for name in folder.index.names():
        if index.NAME.fullmatch(name) and name < newest:
            (folder.index / name).remove()


def sorted_tables(shards: ShardList) -> Iterator[KeyTable]:
    """Yields sorted tables, one for each range of keys; reads all keys twice: to find the ranges, and to sort them."""
    count = -(-shards.rows // RANGE_KEYS)
    edges = np.array([(part << 64) // count for part in range(1, count)], dtype=np.uint64)
    cuts = np.zeros((len(shards.names), count + 1), dtype=np.int64)
    sums = np.zeros((len(shards.names), count), dtype=np.uint64)
    for i, name in enumerate(shards.names):
        with shards.folder.open_shard(name) as shard:
            keys = shard.keys()
        cuts[i, 1:-1] = np.searchsorted(halves(keys)[0], edges)
        cuts[i, -1] = len(keys)
        sums[i] = [xxh3_64_intdigest(keys[a:b].data) for a, b in zip(cuts[i], cuts[i, 1:], strict=False)]
    for part in range(count):
        highs, lows, positions = [NO_KEYS], [NO_KEYS], [np.empty(0, dtype=np.int64)]
        for i in np.flatnonzero(cuts[:, part + 1] > cuts[:, part]).tolist():
            first, end = int(cuts[i, part]), int(cuts[i, part + 1])
            with shards.folder.open_shard(shards.names[i]) as shard:
                keys = shard.file.array("keys", first, end)
                if xxh3_64_intdigest(keys.data) != sums[i, part]:
                    raise damaged(shard.file.path, "has keys that changed during the read")
            high, low = halves(keys)
            highs.append(high)
            lows.append(low)
            positions.append(np.arange(first, end) + shards.starts[i])
        yield KeyTable.of(np.concatenate(highs), np.concatenate(lows), np.concatenate(positions), shards.sums_at)
