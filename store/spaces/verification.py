"""Verification: every byte of a space is read, and what is damaged is named with the keys that it costs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from penult.errors import StoreDamagedError
from penult.store.files.folders import names_in, sizes_of
from penult.store.files.places import Place
from penult.store.keys import Keys, distinct, no_keys
from penult.store.shards.key_table import ABSENT
from penult.store.shards.shard import Shard, ShardName
from penult.store.spaces import index, manifests
from penult.store.spaces.compaction import Progress, digest_on_disk
from penult.store.spaces.index import Index
from penult.store.spaces.lookup import Lookup
from penult.store.spaces.salvage import indexed_keys, salvage
from penult.store.spaces.snapshot import Snapshot, survey
from penult.store.spaces.space_folder import SpaceFolder
from penult.store.spec import SpaceSpec


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written: what is wrong, and the keys of the rows that it costs.

    ``unknown_rows`` counts rows whose keys cannot be told any more.
    """

    path: Place
    reason: str
    keys: Keys = field(default_factory=no_keys)
    unknown_rows: int = 0

    def __str__(self) -> str:
        cost = f", {len(self.keys)} rows to extract again" if len(self.keys) else ""
        unknown = f", {self.unknown_rows} rows of unknown keys" if self.unknown_rows else ""
        return f"{self.path}: {self.reason}{cost}{unknown}"


@dataclass(frozen=True)
class SpaceReport:
    """What verification found in a space."""

    spec: SpaceSpec
    shards: int
    size_bytes: int
    damage: tuple[Damage, ...]

    @property
    def is_sound(self) -> bool:
        """Whether every file is as it was written."""
        return not self.damage

    @property
    def keys(self) -> Keys:
        """The keys that are to be extracted again, each once."""
        return distinct(np.concatenate([no_keys(), *(damage.keys for damage in self.damage)]))


def verify(folder: SpaceFolder, progress: Progress | None = None) -> SpaceReport:
    """Reads every live shard, the manifests and the indexes from disk."""
    snapshot = survey(folder)
    total, done = sum(_size(folder, name) for name in snapshot.live), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    found = [*_damaged_shards(folder, snapshot, advance), *_damaged_manifests(folder), *_damaged_indexes(folder)]
    if any(len(damage.keys) for damage in found):
        found = _without_what_others_hold(folder, snapshot, found)
    return SpaceReport(folder.spec, len(snapshot.live), total, tuple(found))


def _size(folder: SpaceFolder, name: str) -> int:
    try:
        return sizes_of(folder.shards, [name])[0]
    except FileNotFoundError:
        return 0


def _damaged_shards(folder: SpaceFolder, snapshot: Snapshot, advance: Callable[[int], None]) -> Iterator[Damage]:
    for name in snapshot.lost:
        keys = indexed_keys(folder, name)
        yield Damage(folder.shards / name, "is missing", keys, max(ShardName.known(name).rows - len(keys), 0))
    for name in snapshot.live:
        try:
            reason = _what_is_wrong(folder.shards / name, folder, advance)
        except FileNotFoundError:
            continue  # merged into another and collected since the listing
        if reason:
            yield _damage(folder, name, reason)


def _what_is_wrong(path: Place, folder: SpaceFolder, advance: Callable[[int], None]) -> str:
    try:
        if digest_on_disk(path, advance) != ShardName.known(path.name).digest:
            return "fails its checksum"
        with Shard.open(path, folder.spec):
            return ""
    except StoreDamagedError as error:
        return str(error)


def _damage(folder: SpaceFolder, name: str, reason: str) -> Damage:
    path, rows = folder.shards / name, ShardName.known(name).rows
    found = salvage(path, folder)
    if found:
        return Damage(path, reason, found.damaged)
    keys = indexed_keys(folder, name)
    return Damage(path, reason, keys, max(rows - len(keys), 0))


def _damaged_manifests(folder: SpaceFolder) -> Iterator[Damage]:
    for number in manifests.numbers(folder.manifests):
        path = folder.manifests / manifests.file_name(number)
        try:
            manifests.read(path, folder.spec.id)
        except FileNotFoundError:
            continue
        except StoreDamagedError as error:
            yield Damage(path, str(error))


def _damaged_indexes(folder: SpaceFolder) -> Iterator[Damage]:
    for name in sorted(names_in(folder.index)):
        if index.NAME.fullmatch(name):
            try:
                for _ in Index.open(folder.index_file(name), folder.spec.id).tables():
                    pass
            except FileNotFoundError:
                continue
            except StoreDamagedError as error:
                yield Damage(folder.index / name, str(error))


def _without_what_others_hold(folder: SpaceFolder, snapshot: Snapshot, found: list[Damage]) -> list[Damage]:
    bad = {damage.path.name for damage in found}
    others = Lookup.of(folder, frozenset(snapshot.live) - bad)
    return [replace(damage, keys=damage.keys[others.find(damage.keys) == ABSENT]) for damage in found]
