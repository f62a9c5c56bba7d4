"""A space: rows under keys, added and read by any number of processes at once, without a lock."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError, StoreDamagedError, UnknownNameError
from penult.store.files.folders import sizes_of
from penult.store.keys import Keys, distinct, key_array
from penult.store.shards.batches import Batch
from penult.store.shards.key_table import ABSENT
from penult.store.shards.shard import NewShard
from penult.store.spaces.checkpoints import GRACE_SECONDS, Collection, checkpoint, collect
from penult.store.spaces.compaction import Compaction, Progress, compact
from penult.store.spaces.lookup import Lookup
from penult.store.spaces.reading import Features, Reader
from penult.store.spaces.repair import repair as repair_space
from penult.store.spaces.snapshot import ATTEMPTS, take
from penult.store.spaces.space_folder import SpaceFolder
from penult.store.spaces.verification import SpaceReport, verify
from penult.store.spec import FeatureType

CHECKPOINT_ADDS = 64

Result = TypeVar("Result")


@dataclass(frozen=True)
class Rows:
    """Keys (n, 16) and the features (n, width) that stand under them."""

    keys: Keys
    features: Features

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class SpaceStats:
    """What a space holds: distinct keys, rows (also those that another row of their key hides), shards, bytes."""

    keys: int
    rows: int
    shards: int
    size_bytes: int


@dataclass(frozen=True)
class Look:
    """What was seen of a space, at which moment, and how many of its own adds it knows of."""

    lookup: Lookup
    at: float
    adds: int


class Space:
    """The rows of one space of a store.

    Every method sees the rows that are committed at that moment, also those of other processes, and may be called
    from several threads.
    """

    def __init__(self, folder: SpaceFolder) -> None:
        self.path = folder.here
        self.spec = folder.spec
        self._folder = folder
        self._look: Look | None = None  # replaced as a whole, since several threads look
        self._added = self._adds = 0

    def __repr__(self) -> str:
        return f"Space({self.spec.name!r}, id={self.spec.id!r})"

    def add(self, keys: Iterable[bytes] | Keys, rows: NDArray[np.floating[Any]], *, checkpoint: bool = True) -> None:
        """Commits rows; when it returns, they are durable, and when it raises, none or all of them are there.

        All rows of a call become visible at once and lie in one shard: about 16,000 a call serve reading best. A key
        that has a row already is no error: of different rows under one key one counts, chosen by content alone.
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
        """Writes down what the space holds, so that a shard lost later is noticed and opening stays quick.

        To be called at the end of a job; ``add`` does it now and then by itself.
        """
        checkpoint(self._folder)
        self._adds = 0
        self._look = None

    def load(
        self,
        keys: Iterable[bytes] | Keys | None = None,
        *,
        dtype: FeatureType = "float32",
        verify: Literal["full", "none"] = "full",
    ) -> Rows:
        """Reads the rows of ``keys`` in their order, or all rows sorted by key, into memory."""
        if dtype == "float16" and self.spec.dtype == "float32":
            raise InputError(f"{self.spec.name} stores float32", expected="the dtype float32")
        wanted = None if keys is None else key_array(keys)

        def read(lookup: Lookup) -> Rows:
            if wanted is None:
                table = lookup.everything()
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
                remedy="extract the images again, or ask missing() which they are",
            )

    def gather(self, keys: Iterable[bytes] | Keys) -> NDArray[np.float32]:
        """Reads the rows of ``keys`` as float32, in their order; a key may come more than once."""
        features: NDArray[np.float32] = self.load(keys).features.astype(np.float32, copy=False)
        return features

    def __contains__(self, key: bytes) -> bool:
        return not len(self.missing([key]))

    def missing(self, keys: Iterable[bytes] | Keys, *, patience: float = 0.0) -> Keys:
        """Returns those of the keys that have no row yet, each once, in the order asked.

        Rows that others have added or removed in the last ``patience`` seconds may not be reckoned with, which spares
        a listing of all shards; of a space in object storage it is a few seconds at least.
        """
        wanted = key_array(keys)
        patience = max(patience, self._folder.patience_seconds)
        found = self._at_one_moment(lambda lookup: lookup.find(wanted), patience=patience)
        return distinct(wanted[found == ABSENT])

    def keys(self) -> Keys:
        """Returns the keys that have a row, sorted; no row is read for it."""
        return self._at_one_moment(lambda lookup: lookup.everything().keys())

    def __len__(self) -> int:
        return self._at_one_moment(Lookup.count)

    def stats(self) -> SpaceStats:
        """Counts what the space holds."""

        def count(lookup: Lookup) -> SpaceStats:
            names = lookup.shards.names
            return SpaceStats(lookup.count(), lookup.shards.rows, len(names), sum(sizes_of(self._folder.shards, names)))

        return self._at_one_moment(count)

    def compact(self, *, progress: Progress | None = None) -> Compaction:
        """Merges small shards into large ones; readers and writers go on meanwhile, and no answer changes."""
        self._look = None
        return compact(self._folder, progress=progress)

    def collect(self, *, grace_seconds: float = GRACE_SECONDS) -> Collection:
        """Removes what compaction and killed writers left behind, once it has lain in the trash for a grace time."""
        return collect(self._folder, grace_seconds=grace_seconds)

    def verify(self, *, repair: bool = False, progress: Progress | None = None) -> SpaceReport:
        """Reads every byte from disk and names what is damaged, with the keys to extract again.

        With ``repair``, damaged files are set aside, and rows that can still be read are kept; after that the space
        can be read again, and ``missing`` tells what it lacks.
        """
        report = verify(self._folder, progress)
        if repair and not report.is_sound:
            self._look = None
            report = repair_space(self._folder, report)
        return report

    def _at_one_moment(self, read: Callable[[Lookup], Result], *, patience: float = 0.0) -> Result:
        # A shard may go while it is read, once another has replaced it: then what is live by then is read instead.
        for _ in range(ATTEMPTS):
            known = self._look
            try:
                if known is not None and known.adds == self._added and time.monotonic() < known.at + patience:
                    return read(known.lookup)
                now, adds = time.monotonic(), self._added
                live = frozenset(take(self._folder).live)
                lookup = Lookup.of(self._folder, live, None if known is None else known.lookup)
                self._look = Look(lookup, now, adds)
                return read(lookup)
            except FileNotFoundError:
                patience = 0.0
        raise StoreDamagedError(f"{self._folder.path} changes faster than it can be read")
