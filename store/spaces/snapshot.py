"""A snapshot: the committed shards at one moment, found without a lock."""

from dataclasses import dataclass

from penult.errors import StoreDamagedError
from penult.store.shards.container import damaged
from penult.store.shards.shard import ShardName
from penult.store.spaces.manifests import Manifest
from penult.store.spaces.space_folder import SpaceFolder

ATTEMPTS = 1000


@dataclass(frozen=True)
class Snapshot:
    """The names of the shards at one moment.

    ``live`` shards contain the rows. ``idle`` shards are in the folder too: they are retired, or merged and not in use
    yet. ``lost`` shards should be live and are missing.
    """

    manifest: Manifest
    live: tuple[str, ...]
    idle: frozenset[str]
    lost: tuple[str, ...]


def take_snapshot(folder: SpaceFolder) -> Snapshot:
    """Returns the current snapshot; raises an error if a shard is lost."""
    snapshot = find_shards(folder)
    require_complete(folder, snapshot)
    return snapshot


def require_complete(folder: SpaceFolder, snapshot: Snapshot, without: frozenset[str] = frozenset()) -> None:
    """Raises an error if a shard is lost that is not in ``without``."""
    lost = [name for name in snapshot.lost if name not in without]
    if lost:
        others = f", as are {len(lost) - 1} others" if len(lost) > 1 else ""
        raise damaged(folder.shards / lost[0], f"is missing{others}")


def find_shards(folder: SpaceFolder) -> Snapshot:
    """Lists the shards, and repeats that if a manifest was added meanwhile, so that compaction hides no shard.

    A single listing may show neither an old shard nor the one that replaced it, because a folder is not listed at one
    moment. An old shard is removed only after a manifest has retired it, so an unchanged manifest rules this out.
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
    """Decides which of the ``listed`` shards are live.

    A merged shard that no manifest lists is normally not in use. It counts only if a shard that it replaces is gone:
    then it was in use, and the manifest that listed it is damaged.
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
    """Returns the shards that a merged one replaces; none if it is damaged, so that they stay in use."""
    try:
        with folder.open_shard(name) as shard:
            return shard.replaces
    except StoreDamagedError:
        return frozenset()
