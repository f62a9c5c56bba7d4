"""A space: rows under keys that any number of processes add and read at the same time, without a lock."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError, StoreDamagedError, UnknownNameError
from penult.store.keys import Keys, distinct, key_array
from penult.store.shards.batches import Batch
from penult.store.shards.key_table import ABSENT
from penult.store.shards.shard import NewShard
from penult.store.spaces.checkpoints import GRACE_SECONDS, Collection, checkpoint, collect
from penult.store.spaces.compaction import Compaction, Progress, compact
from penult.store.spaces.lookup import Lookup
from penult.store.spaces.reading import Features, Reader
from penult.store.spaces.snapshot import ATTEMPTS, take_snapshot
from penult.store.spaces.space_folder import SpaceFolder
from penult.store.spaces.verification import SpaceReport, repair_space, verify
from penult.store.spec import FeatureType

CHECKPOINT_ADDS = 64

Result = TypeVar("Result")


@dataclass(frozen=True)
class Rows:
    """Keys (n, 16) and their features (n, width)."""

    keys: Keys
    features: Features

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class SpaceStats:
    """Counts of a space: distinct keys, rows (including rows that another row of their key hides), shards, bytes."""

    keys: int
    rows: int
    shards: int
    size_bytes: int


@dataclass(frozen=True)
class _CachedLookup:
    """A lookup, the time when it was made, and the number of this object's own adds before it."""

    lookup: Lookup
    at: float
    adds: int


class Space:
    """The rows of one space of a store.

    Every method sees all rows that are committed at that moment, also by other processes. Several threads may share a
    space.
    """

    def __init__(self, folder: SpaceFolder) -> None:
        self.path = folder.local
        self.spec = folder.spec
        self._folder = folder
        self._cached: _CachedLookup | None = None  # always replaced as a whole, because threads share it
        self._added = self._adds = 0

    def __repr__(self) -> str:
        return f"Space({self.spec.name!r}, id={self.spec.id!r})"

    def add(self, keys: Iterable[bytes] | Keys, rows: NDArray[np.floating[Any]], *, checkpoint: bool = True) -> None:
        """Commits rows. They are durable when it returns; if it raises, either none or all of them are stored.

        All rows of a call become visible at once and form one shard; about 16,000 rows a call give the fastest reads.
        A key may have a row already: of different rows under one key one counts, chosen by content alone.
        """
        batch = Batch.of(self.spec, keys, rows)
        if not len(batch.keys):
            return
        if checkpoint and self._adds >= CHECKPOINT_ADDS:
            self.checkpoint()
        self._folder.put_shard(NewShard(self.spec, batch.keys, batch.rows_between))
        self._added += 1
        self._adds += 1

    def checkpoint(self) -> None:
        """Records the shards of the space, so that a later loss is noticed and opening stays fast.

        Call it at the end of a job. ``add`` also calls it from time to time.
        """
        checkpoint(self._folder)
        self._adds = 0
        self._cached = None

    def load(
        self,
        keys: Iterable[bytes] | Keys | None = None,
        *,
        dtype: FeatureType = "float32",
        verify: Literal["full", "none"] = "full",
    ) -> Rows:
        """Reads the rows of ``keys`` in their order, or all rows sorted by key, into memory."""
        if dtype == "float16" and self.spec.dtype == "float32":
            raise InputError(f"{self.spec.name} stores float32 features", expected="dtype='float32'")
        wanted = None if keys is None else key_array(keys)

        def read(lookup: Lookup) -> Rows:
            if wanted is None:
                table = lookup.table()
                found, positions = table.keys(), table.positions
            else:
                found, positions = wanted, lookup.find(wanted)
                self._require(found[positions == ABSENT], len(found))
            features: Features = np.empty((len(found), self.spec.width), dtype=dtype)
            Reader(lookup.shards, found, features, is_checking=verify == "full").read(positions)
            return Rows(found, features)

        return self._at_one_moment(read)

    def _require(self, absent: Keys, asked: int) -> None:
        if len(absent):
            raise UnknownNameError(
                f"{len(absent)} of {asked} keys have no row in {self.spec.name}, such as {absent[0].tobytes().hex()}",
                expected="keys that were added",
                remedy="extract the images again; missing() lists these keys",
            )

    def gather(self, keys: Iterable[bytes] | Keys) -> NDArray[np.float32]:
        """Reads the rows of ``keys`` as float32, in their order; a key may occur more than once."""
        features: NDArray[np.float32] = self.load(keys).features.astype(np.float32, copy=False)
        return features

    def __contains__(self, key: bytes) -> bool:
        return not len(self.missing([key]))

    def missing(self, keys: Iterable[bytes] | Keys, *, patience: float = 0.0) -> Keys:
        """Returns the distinct keys that have no row yet, in the given order.

        It may ignore changes by other processes in the last ``patience`` seconds, which saves a listing of all shards.
        In object storage, ``patience`` is at least a few seconds.
        """
        wanted = key_array(keys)
        patience = max(patience, self._folder.patience_seconds)
        found = self._at_one_moment(lambda lookup: lookup.find(wanted), patience=patience)
        return distinct(wanted[found == ABSENT])

    def keys(self) -> Keys:
        """Returns the sorted keys of all rows, without reading a row."""
        return self._at_one_moment(lambda lookup: lookup.table().keys())

    def __len__(self) -> int:
        return self._at_one_moment(Lookup.count)

    def stats(self) -> SpaceStats:
        """Counts the keys, rows, shards and bytes of the space."""

        def count(lookup: Lookup) -> SpaceStats:
            names, place = lookup.shards.names, self._folder.shards
            size = sum((place / name).size() for name in names)
            return SpaceStats(lookup.count(), lookup.shards.rows, len(names), size)

        return self._at_one_moment(count)

    def compact(self, *, progress: Progress | None = None) -> Compaction:
        """Merges small shards into large ones. Other processes can read and write meanwhile, and no result changes."""
        self._cached = None
        return compact(self._folder, progress=progress)

    def collect(self, *, grace_seconds: float = GRACE_SECONDS) -> Collection:
        """Moves replaced shards to the trash, and removes files from it and from ``tmp`` after the grace time."""
        return collect(self._folder, grace_seconds=grace_seconds)

    def verify(self, *, repair: bool = False, progress: Progress | None = None) -> SpaceReport:
        """Reads every byte from disk and lists damaged files with the keys to extract again.

        With ``repair``, it moves damaged files to quarantine and keeps all rows that can still be read. The space is
        then readable again, and ``missing`` lists the lost keys.
        """
        report = verify(self._folder, progress)
        if repair and not report.is_sound:
            self._cached = None
            report = repair_space(self._folder, report)
        return report

    def _at_one_moment(self, read: Callable[[Lookup], Result], *, patience: float = 0.0) -> Result:
        # Compaction may replace and remove a shard during a read; the read is then repeated on the shards live by then.
        for _ in range(ATTEMPTS):
            known = self._cached
            try:
                if known is not None and known.adds == self._added and time.monotonic() < known.at + patience:
                    return read(known.lookup)
                now, adds = time.monotonic(), self._added
                live = frozenset(take_snapshot(self._folder).live)
                lookup = Lookup.of(self._folder, live, None if known is None else known.lookup)
                self._cached = _CachedLookup(lookup, now, adds)
                return read(lookup)
            except FileNotFoundError:
                patience = 0.0
        raise StoreDamagedError(f"{self._folder.path} changes faster than it can be read")
