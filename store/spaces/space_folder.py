"""The folder of a space: opens, caches and publishes its files, and lists its shards in a fixed order."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penult.errors import StoreFormatError
from penult.store.files.local import LocalPath, Part, temporary_folder, temporary_name, write_new
from penult.store.files.protocol import StoragePath
from penult.store.keys import halves
from penult.store.shards.checksums import Sums
from penult.store.shards.container import ContainerLayout, damaged
from penult.store.shards.key_table import EMPTY_TABLE, KeyTable, Positions
from penult.store.shards.shard import NewShard, Shard, rows_of
from penult.store.spaces import manifests
from penult.store.spaces.manifests import NONE_YET, Manifest
from penult.store.spec import SpaceSpec

PARTS = ("index", "manifests", "quarantine", "shards", "tmp", "trash")
LAYOUTS_KEPT = 1 << 15

PATIENCE_SECONDS = 5.0
"""The allowed age of a listing of object storage, which costs a request, when the answer only saves work."""


class SpaceFolder:
    """The folder of a space, on a disk or in object storage.

    For object storage, ``cache`` is a local folder for indexes, and files are written in a temporary folder.
    """

    def __init__(self, path: StoragePath, spec: SpaceSpec, refusal: str = "", *, cache: Path | None = None) -> None:
        self.path = path
        self.spec = spec
        self.refusal = refusal
        self.index, self.manifests, self.quarantine, self.shards, _, self.trash = (path / part for part in PARTS)
        if isinstance(path, LocalPath):
            self.local, self.tmp, self.patience_seconds = Path(path), path / "tmp", 0.0
        else:
            self.local, self.tmp, self.patience_seconds = cache or Path(), temporary_folder(self), PATIENCE_SECONDS
        self._layouts: dict[str, ContainerLayout] = {}
        self._manifest: Manifest = NONE_YET

    def open_shard(self, name: str) -> Shard:
        """Opens a shard; raises ``FileNotFoundError`` if it is missing."""
        layout = self._layouts.get(name)
        shard = Shard.open(self.shards / name, self.spec, layout)
        if layout is None:
            if len(self._layouts) >= LAYOUTS_KEPT:
                self._layouts = {}
            self._layouts[name] = shard.file.layout
        return shard

    def index_file(self, name: str) -> LocalPath:
        """Returns the local path of an index; object storage is slow for its many small reads."""
        return LocalPath((self.index / name).local_copy(self.local))

    def listed_shards(self) -> frozenset[str]:
        """Lists the names in the folder of the shards."""
        if not self.shards.is_dir():
            raise damaged(self.shards, "is missing")
        return frozenset(self.shards.names())

    def newest_number(self) -> int:
        """Returns the number of the newest manifest, or 0."""
        return max(manifests.numbers(self.manifests), default=0)

    def newest_manifest(self) -> Manifest:
        """Returns the newest manifest."""
        if self._manifest.number != self.newest_number():
            self._manifest = manifests.read_newest(self.manifests, self.spec.id)
        return self._manifest

    def put_shard(self, shard: NewShard) -> None:
        """Commits a shard."""
        temporary = self.write(".h5", shard.parts())
        (self.shards / shard.name).publish(temporary)

    def write(self, suffix: str, parts: Iterable[Part]) -> LocalPath:
        """Writes a file under a temporary name that no reader opens, and returns its path."""
        if self.refusal:
            raise StoreFormatError(self.refusal, expected="a store of this version", remedy="upgrade penult")
        temporary = temporary_name(self.tmp, suffix)
        if not self.tmp.is_dir():
            self.tmp.make_folder()
        write_new(temporary, parts)
        return temporary

    def put_manifest(self, manifest: Manifest) -> bool:
        """Writes a manifest unless its number is taken; returns whether it did."""
        temporary = self.write(".json", manifests.parts(manifest, self.spec.id))
        if not self.manifests.is_dir():
            self.manifests.make_folder()
        return (self.manifests / manifests.file_name(manifest.number)).publish_if_absent(temporary)


class ShardList:
    """Shards of a space in a fixed order; a position counts the rows through all of them."""

    def __init__(self, folder: "SpaceFolder", names: Sequence[str], starts: NDArray[np.int64] | None = None) -> None:
        self.folder = folder
        self.names = tuple(names)
        known = np.zeros(1, dtype=np.int64) if starts is None else starts
        rows = np.fromiter(map(rows_of, self.names[len(known) - 1 :]), dtype=np.int64)
        self.starts = np.concatenate([known, known[-1] + np.cumsum(rows)])

    @property
    def rows(self) -> int:
        """The number of rows, including rows that another row of their key hides."""
        return int(self.starts[-1])

    def table(self, known: KeyTable = EMPTY_TABLE, first: int = 0) -> KeyTable:
        """Returns the table of the ``known`` keys and of the keys of the shards from ``first`` on."""
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
        """Groups positions by shard; yields its name, its sorted rows, and their places among the positions."""
        order = np.argsort(positions, kind="stable")
        ordered = positions[order]
        cuts = np.searchsorted(ordered, self.starts)
        if cuts[0] != 0 or cuts[-1] != len(positions):
            raise AssertionError("a position is outside the shards")
        for i in np.flatnonzero(np.diff(cuts)):
            part = slice(cuts[i], cuts[i + 1])
            yield self.names[i], ordered[part] - self.starts[i], order[part]

    def sums_at(self, positions: Positions) -> Sums:
        """Reads the checksums of the rows at ``positions``."""
        sums = np.zeros(len(positions), dtype=np.uint64)
        for name, rows, places in self.split(positions):
            with self.folder.open_shard(name) as shard:
                sums[places] = shard.row_sums()[rows]
        return sums
