"""A space: rows under keys, added and read by any number of processes at once, without a lock."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError, UnknownNameError
from penult.store import manifests
from penult.store.batches import Batch
from penult.store.durable import publish, temporary_name, write_new
from penult.store.keys import Keys, key_array
from penult.store.keytable import ABSENT, KeyTable
from penult.store.manifests import EMPTY, Manifest
from penult.store.reading import Features, read_rows
from penult.store.shards import Shard, ShardName, build_shard
from penult.store.snapshot import ATTEMPTS, Snapshot, newest_manifest, take
from penult.store.spec import FeatureType, SpaceSpec

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
    """What a space holds: distinct keys, rows (with those that another row of the key hides), shards and bytes."""

    keys: int
    rows: int
    shards: int
    size_bytes: int


class Space:
    """The rows of one space of a store.

    Every method sees the rows that are committed at that moment, also by other processes.
    """

    def __init__(self, path: Path, spec: SpaceSpec) -> None:
        self.path = path
        self.spec = spec
        self._replaces: dict[ShardName, tuple[str, ...]] = {}
        self._manifest: Manifest = EMPTY
        self._table: tuple[tuple[ShardName, ...], KeyTable] = ((), KeyTable.of([], []))

    def __repr__(self) -> str:
        return f"Space({self.spec.name!r}, id={self.spec.id!r})"

    def add(self, keys: Iterable[bytes] | Keys, rows: NDArray[np.floating[Any]]) -> None:
        """Commits rows; when it returns, they are durable, and when it raises, none or all of them are there.

        All rows of a call become visible at once and lie in one shard: some thousands a call serve reading best. A
        key that has a row already is no error: of different rows under one key, one counts, chosen by content alone.
        """
        batch = Batch.of(self.spec, keys, rows)
        if not len(batch.keys):
            return
        shard = build_shard(self.spec, batch.keys, batch.rows)
        temporary = temporary_name(self.path / "tmp", ".h5")
        write_new(temporary, shard.image.parts)
        publish(temporary, self.path / "shards" / str(shard.name))

    def load(
        self,
        keys: Iterable[bytes] | Keys | None = None,
        *,
        dtype: FeatureType = "float32",
        verify: Literal["full", "none"] = "full",
    ) -> Rows:
        """Reads the rows of ``keys`` in their order, or all rows sorted by key, into memory."""
        if dtype == "float16" and self.spec.dtype == "float32":
            raise InputError(f"{self.spec.name} stores float32", expected="dtype float32")
        wanted = None if keys is None else key_array(keys)

        def read(snapshot: Snapshot) -> Rows:
            table = self._table_of(snapshot)
            found = table.keys if wanted is None else wanted
            positions = table.positions if wanted is None else table.find(wanted)
            missing = int((positions == ABSENT).sum())
            if missing:
                first = found[np.argmax(positions == ABSENT)].tobytes().hex()
                raise UnknownNameError(
                    f"{missing} of {len(found)} keys have no row in {self.spec.name}, the first is {first}",
                    remedy="extract the images again, or ask missing() which they are",
                )
            features: Features = np.empty((len(found), self.spec.width), dtype=dtype)
            read_rows(self.path / "shards", self.spec, snapshot.live, positions, out=features, verify=verify == "full")
            return Rows(found, features)

        return self._at_one_moment(read)

    def gather(self, keys: Iterable[bytes] | Keys) -> NDArray[np.float32]:
        """Reads the rows of ``keys`` as float32, in their order; a key may be asked more than once."""
        features: NDArray[np.float32] = self.load(keys).features.astype(np.float32, copy=False)
        return features

    def __contains__(self, key: bytes) -> bool:
        return not len(self.missing([key]))

    def missing(self, keys: Iterable[bytes] | Keys) -> Keys:
        """Returns those of the keys that have no row yet, each once, in the order asked."""
        wanted = key_array(keys)
        absent = wanted[self._at_one_moment(self._table_of).find(wanted) == ABSENT]
        _, first = np.unique(absent.view("V16").reshape(-1), return_index=True)
        distinct: Keys = absent[np.sort(first)]
        return distinct

    def __len__(self) -> int:
        return len(self._at_one_moment(self._table_of))

    def stats(self) -> SpaceStats:
        """Counts what the space holds."""

        def count(snapshot: Snapshot) -> SpaceStats:
            sizes = ((self.path / "shards" / str(name)).stat().st_size for name in snapshot.live)
            rows = sum(name.rows for name in snapshot.live)
            return SpaceStats(len(self._table_of(snapshot)), rows, len(snapshot.live), sum(sizes))

        return self._at_one_moment(count)

    def _at_one_moment(self, read: Callable[[Snapshot], Result]) -> Result:
        # A shard may go while it is read, once another has replaced it: then the set of a later moment is read.
        for attempt in range(ATTEMPTS):
            snapshot = take(self.path, self._newest, self._replaces_of)
            try:
                return read(snapshot)
            except FileNotFoundError:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    def _newest(self) -> Manifest:
        folder = self.path / "manifests"
        if self._manifest.number != next(iter(manifests.numbers(folder)), 0):
            self._manifest = newest_manifest(folder, self.spec.id)
        return self._manifest

    def _replaces_of(self, name: ShardName) -> tuple[str, ...]:
        if name not in self._replaces:
            with Shard.open(self.path / "shards", name, self.spec) as shard:
                self._replaces[name] = shard.replaces
        return self._replaces[name]

    def _table_of(self, snapshot: Snapshot) -> KeyTable:
        shards, table = self._table
        if shards != snapshot.live:
            keys, sums = [], []
            for name in snapshot.live:
                with Shard.open(self.path / "shards", name, self.spec) as shard:
                    keys.append(shard.keys())
                    sums.append(shard.row_sums())
            table = KeyTable.of(keys, sums)
            self._table = (snapshot.live, table)
        return table
