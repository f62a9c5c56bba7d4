"""Verifies every byte of a space, lists damaged files with the keys of their rows, and repairs the space."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from penult.errors import StoreDamagedError
from penult.store.files.protocol import StoragePath
from penult.store.keys import Keys, distinct, no_keys
from penult.store.shards.key_table import ABSENT
from penult.store.shards.shard import Shard, ShardName
from penult.store.spaces import index, manifests
from penult.store.spaces.checkpoints import checkpoint
from penult.store.spaces.compaction import Progress, digest_on_disk
from penult.store.spaces.index import Index
from penult.store.spaces.lookup import Lookup
from penult.store.spaces.salvage import bring_back, indexed_keys, salvage
from penult.store.spaces.snapshot import Snapshot, find_shards
from penult.store.spaces.space_folder import SpaceFolder
from penult.store.spec import SpaceSpec


@dataclass(frozen=True)
class Damage:
    """A damaged or missing file: the reason, and the keys of the lost rows.

    ``unknown_rows`` counts lost rows whose keys are unknown.
    """

    path: StoragePath
    reason: str
    keys: Keys = field(default_factory=no_keys)
    unknown_rows: int = 0

    def __str__(self) -> str:
        cost = f", {len(self.keys)} rows to extract again" if len(self.keys) else ""
        unknown = f", {self.unknown_rows} rows with unknown keys" if self.unknown_rows else ""
        return f"{self.path}: {self.reason}{cost}{unknown}"


@dataclass(frozen=True)
class SpaceReport:
    """The result of verifying a space."""

    spec: SpaceSpec
    shards: int
    size_bytes: int
    damage: tuple[Damage, ...]

    @property
    def is_sound(self) -> bool:
        """Whether every file is undamaged."""
        return not self.damage

    @property
    def keys(self) -> Keys:
        """The distinct keys of the images to extract again."""
        return distinct(np.concatenate([no_keys(), *(damage.keys for damage in self.damage)]))


def verify(folder: SpaceFolder, progress: Progress | None = None) -> SpaceReport:
    """Reads every live shard, the manifests and the indexes from disk."""
    snapshot = find_shards(folder)
    total, done = sum(_size(folder, name) for name in snapshot.live), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    found = [*_damaged_shards(folder, snapshot, advance), *_damaged_manifests(folder), *_damaged_indexes(folder)]
    if any(len(damage.keys) for damage in found):
        found = _without_rows_elsewhere(folder, snapshot, found)
    return SpaceReport(folder.spec, len(snapshot.live), total, tuple(found))


def repair_space(folder: SpaceFolder, report: SpaceReport) -> SpaceReport:
    """Moves the damaged files of a report to quarantine; returns the report with only the keys that are lost.

    The sound rows of damaged shards are committed again, and so are needed rows of replaced shards that still exist.
    """
    damaged = [damage.path for damage in report.damage]
    bad = frozenset(path.name for path in damaged if path.parent == folder.shards)
    for name in sorted(bad):
        bring_back(folder, folder.shards / name)
    if bad:
        _bring_back_replaced(folder, bad)
    checkpoint(folder, without=bad)
    folder.quarantine.make_folder()
    for path in damaged:
        if path.parent == folder.index:
            path.remove()
        else:
            path.move_to(folder.quarantine / path.name)
    for changed in {path.parent for path in damaged} | {folder.quarantine}:
        changed.sync_folder()
    present = Lookup.of(folder, frozenset(find_shards(folder).live))
    left = [replace(damage, keys=damage.keys[present.find(damage.keys) == ABSENT]) for damage in report.damage]
    return replace(report, damage=tuple(left))


def _size(folder: SpaceFolder, name: str) -> int:
    try:
        return (folder.shards / name).size()
    except FileNotFoundError:
        return 0


def _damaged_shards(folder: SpaceFolder, snapshot: Snapshot, advance: Callable[[int], None]) -> Iterator[Damage]:
    for name in snapshot.lost:
        keys = indexed_keys(folder, name)
        yield Damage(folder.shards / name, "is missing", keys, max(ShardName.known(name).rows - len(keys), 0))
    for name in snapshot.live:
        try:
            reason = _defect(folder.shards / name, folder, advance)
        except FileNotFoundError:
            continue  # compacted and removed since the listing
        if reason:
            yield _damage(folder, name, reason)


def _defect(path: StoragePath, folder: SpaceFolder, advance: Callable[[int], None]) -> str:
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
    for name in sorted(folder.index.names()):
        if index.NAME.fullmatch(name):
            try:
                for _ in Index.open(folder.index_file(name), folder.spec.id).tables():
                    pass
            except FileNotFoundError:
                continue
            except StoreDamagedError as error:
                yield Damage(folder.index / name, str(error))


def _without_rows_elsewhere(folder: SpaceFolder, snapshot: Snapshot, found: list[Damage]) -> list[Damage]:
    bad = {damage.path.name for damage in found}
    others = Lookup.of(folder, frozenset(snapshot.live) - bad)
    return [replace(damage, keys=damage.keys[others.find(damage.keys) == ABSENT]) for damage in found]


def _bring_back_replaced(folder: SpaceFolder, bad: frozenset[str]) -> None:
    idle = [folder.shards / name for name in find_shards(folder).idle - bad]
    trash = [folder.trash / name for name in folder.trash.names() if ShardName.parse(name)]
    for path in sorted(idle + trash, key=str):
        bring_back(folder, path, Lookup.of(folder, frozenset(find_shards(folder).live) - bad))
