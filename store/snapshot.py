"""A snapshot: the committed shards of one moment, found without a lock."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from penult.errors import StoreDamagedError
from penult.store import manifests
from penult.store.container import damaged
from penult.store.folders import names_in
from penult.store.manifests import EMPTY, Manifest
from penult.store.shards import ShardName

ATTEMPTS = 1000


@dataclass(frozen=True)
class Snapshot:
    """The shards that are live, sorted by name, and the manifest that was the newest meanwhile."""

    manifest: Manifest
    live: tuple[ShardName, ...]


def take(space: Path, newest: Callable[[], Manifest], replaces: Callable[[ShardName], tuple[str, ...]]) -> Snapshot:
    """Lists the shards while no manifest is added, so that none is missed while compaction and GC go on.

    A listing alone may show neither an old shard nor the one that replaced it: the folder may be read past the place
    where the new one appears before the old one goes. But an old one goes only after a manifest has retired it.
    """
    for _ in range(ATTEMPTS):
        manifest = newest()
        listed = {name for name in map(ShardName.parse, names_in(space / "shards")) if name}
        try:
            snapshot = _resolve(space, manifest, listed, replaces)
        except FileNotFoundError:
            continue
        except StoreDamagedError:
            if newest().number == manifest.number:
                raise
            continue
        if newest().number == manifest.number:
            return snapshot
    raise StoreDamagedError(f"{space} changes faster than it can be listed")


def _resolve(
    space: Path, manifest: Manifest, listed: set[ShardName], replaces: Callable[[ShardName], tuple[str, ...]]
) -> Snapshot:
    replaced = {old for name in listed - manifest.shards - manifest.retired for old in replaces(name)}
    lost = [name for name in manifest.shards - listed if str(name) not in replaced]
    if lost:
        raise damaged(space / "shards" / str(min(lost)), "is missing")
    live = (name for name in listed - manifest.retired if str(name) not in replaced)
    return Snapshot(manifest, tuple(sorted(live)))


def newest_manifest(folder: Path, space_id: str) -> Manifest:
    """Returns the newest manifest that passes its checks."""
    for number in manifests.numbers(folder):
        try:
            return manifests.read(folder, number, space_id)
        except (FileNotFoundError, StoreDamagedError):
            continue
    return EMPTY
