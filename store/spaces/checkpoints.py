"""Checkpoints record the shards of a space, so that a later loss is noticed; ``collect`` removes replaced shards."""

import time
from dataclasses import dataclass

from penult.errors import StoreDamagedError
from penult.store.files.protocol import StoragePath
from penult.store.spaces import manifests
from penult.store.spaces.lookup import refresh_index
from penult.store.spaces.manifests import Manifest
from penult.store.spaces.snapshot import ATTEMPTS, Snapshot, find_shards, replaced_by, require_complete
from penult.store.spaces.space_folder import SpaceFolder

GRACE_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Collection:
    """The result of ``collect``: shards moved to the trash, and files and bytes removed from it and from ``tmp``."""

    shards_moved: int
    files_removed: int
    bytes_removed: int


def checkpoint(folder: SpaceFolder, *, without: frozenset[str] = frozenset()) -> Manifest:
    """Writes a manifest of the live shards unless the newest one is equal, and returns the newest.

    Merged shards become live here, and the shards that they replace are retired. The damaged shards in ``without`` are
    retired too.
    """
    for _ in range(ATTEMPTS):
        snapshot = find_shards(folder)
        require_complete(folder, snapshot, without)
        try:
            live, retired = _settle(folder, snapshot, without)
        except FileNotFoundError:
            continue
        newest = snapshot.manifest
        if (live, retired) == (newest.shards, newest.retired) and not newest.is_substitute:
            refresh_index(folder, newest)
            return newest
        # A manifest must not outlive the names that it lists, so those are flushed first, whichever process made them.
        folder.shards.sync_folder()
        manifest = Manifest(newest.number + 1, live, retired)
        if folder.put_manifest(manifest):
            _prune(folder)
            refresh_index(folder, manifest)
            return manifest
    raise StoreDamagedError(f"{folder.path} changes faster than a checkpoint can be written")


def _settle(folder: SpaceFolder, snapshot: Snapshot, without: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    live, idle = frozenset(snapshot.live), snapshot.idle
    for name in sorted(idle - snapshot.manifest.retired):
        replaced = replaced_by(folder, name)
        if replaced and replaced <= live:
            live = (live - replaced) | {name}
            idle = (idle | replaced) - {name}
    return live - without, idle | (live & without)


def _prune(folder: SpaceFolder) -> None:
    for number in manifests.numbers(folder.manifests)[manifests.KEPT :]:
        (folder.manifests / manifests.file_name(number)).remove()


def collect(folder: SpaceFolder, *, grace_seconds: float = GRACE_SECONDS) -> Collection:
    """Moves retired shards to the trash, and removes files from it and from ``tmp`` after the grace time.

    The clock only decides how long a file can still be rescued by hand. A reader that loses a shard to the trash reads
    its successor; a writer that loses its file raises an error and can try again.
    """
    retired = checkpoint(folder).retired
    if retired:
        # The manifest of another process may not be durable yet.
        folder.manifests.sync_folder()
        if not folder.trash.is_dir():
            folder.trash.make_folder()
    moved = sum((folder.shards / name).move_to(folder.trash / name) for name in sorted(retired))
    if moved:
        folder.trash.sync_folder()
        folder.shards.sync_folder()
    places: tuple[StoragePath, ...] = (folder.trash, folder.tmp)
    files = [place / name for place in places for name in place.names()]
    sizes = [_remove_if_old(path, grace_seconds) for path in files]
    removed = [size for size in sizes if size is not None]
    return Collection(moved, len(removed), sum(removed))


def _remove_if_old(path: StoragePath, grace_seconds: float) -> int | None:
    try:
        size, changed = path.size_and_change()
    except FileNotFoundError:
        return None
    if time.time() - changed < grace_seconds or not path.remove():
        return None
    return size
