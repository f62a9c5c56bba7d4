"""A snapshot: the committed shards of one moment, found without a lock."""

from dataclasses import dataclass

from penult.errors import StoreDamagedError
from penult.store.shards.container import damaged
from penult.store.shards.shard import ShardName
from penult.store.spaces.manifests import Manifest
from penult.store.spaces.space_folder import SpaceFolder

ATTEMPTS = 1000


@dataclass(frozen=True)
class Snapshot:
    """The shards of one moment, by name.

    ``live`` ones hold the rows; ``idle`` ones lie in the folder too, retired or merged and not yet in use; ``lost``
    ones should be live and are not there.
    """

    manifest: Manifest
    live: tuple[str, ...]
    idle: frozenset[str]
    lost: tuple[str, ...]


def take(folder: SpaceFolder) -> Snapshot:
    """Returns the snapshot of this moment, or raises if a shard of it is lost."""
    snapshot = survey(folder)
    require_whole(folder, snapshot)
    return snapshot


def require_whole(folder: SpaceFolder, snapshot: Snapshot, without: frozenset[str] = frozenset()) -> None:
    """Raises if a shard is lost, other than those ``without`` which the space is to go on."""
    lost = [name for name in snapshot.lost if name not in without]
    if lost:
        others = f", as are {len(lost) - 1} others" if len(lost) > 1 else ""
        raise damaged(folder.shards / lost[0], f"is missing{others}")


def survey(folder: SpaceFolder) -> Snapshot:
    """Lists the shards while no manifest is added, so that none is missed while compaction and GC go on.

    A listing alone may show neither an old shard nor the one that replaced it: the folder may be read past the place
    where the new one appears before the old one goes. But an old one goes only once a manifest has retired it.
    """
    for _ in range(ATTEMPTS):
        manifest = folder.newest_manifest()
        listed = folder.listed_shards()
        try:
            snapshot = resolve(folder, manifest, listed)
        except FileNotFoundError:
            continue
        if folder.newest_number() == manifest.number:
            return snapshot
    raise StoreDamagedError(f"{folder.path} changes faster than it can be listed")


def resolve(folder: SpaceFolder, manifest: Manifest, listed: frozenset[str]) -> Snapshot:
    """Tells which of the ``listed`` shards are live.

    A merged shard that no manifest names is not in use yet, or never will be. Only if one of those that it replaces is
    gone does it count: then it was in use, and the manifest that said so is damaged.
    """
    unnamed = [name for name in map(ShardName.parse, listed - manifest.shards - manifest.retired) if name]
    live = (manifest.shards & listed) | {str(name) for name in unnamed if not name.is_merged}
    lost = manifest.shards - listed
    idle = manifest.retired & listed
    for name in sorted(str(name) for name in unnamed if name.is_merged):
        replaced = replaced_by(folder, name)
        if replaced <= listed:
            idle |= {name}
        else:
            live = (live - replaced) | {name}
            idle |= replaced & listed
            lost -= replaced
    return Snapshot(manifest, tuple(sorted(live)), idle, tuple(sorted(lost)))


def replaced_by(folder: SpaceFolder, name: str) -> frozenset[str]:
    """Returns which shards a merged one replaces: none if it is damaged, so that they stay in use."""
    try:
        with folder.open_shard(name) as shard:
            return shard.replaces
    except StoreDamagedError:
        return frozenset()
