"""Checkpoints: what is in the folder of a space is written down, so that a later loss is noticed."""

import time
from dataclasses import dataclass

from penult.errors import StoreDamagedError
from penult.store.files.durable import make_folder, move, remove, sync_folder
from penult.store.files.folders import names_in, size_and_change
from penult.store.files.places import Place
from penult.store.spaces import manifests
from penult.store.spaces.lookup import refresh_index
from penult.store.spaces.manifests import Manifest
from penult.store.spaces.snapshot import ATTEMPTS, Snapshot, replaced_by, require_whole, survey
from penult.store.spaces.space_folder import SpaceFolder


def checkpoint(folder: SpaceFolder, *, without: frozenset[str] = frozenset()) -> Manifest:
    """Writes a manifest of the live shards unless the newest says the same, and returns the newest.

    Merged shards come into use here, and those that they replace retire. The shards ``without`` which the space is to
    go on (damaged ones) retire too.
    """
    for _ in range(ATTEMPTS):
        snapshot = survey(folder)
        require_whole(folder, snapshot, without)
        try:
            live, retired = _settle(folder, snapshot, without)
        except FileNotFoundError:
            continue
        newest = snapshot.manifest
        if (live, retired) == (newest.shards, newest.retired) and not newest.is_substitute:
            refresh_index(folder, newest)
            return newest
        # A manifest may outlive the names that it relies on only if those are durable, whoever made them.
        sync_folder(folder.shards)
        manifest = Manifest(newest.number + 1, live, retired)
        if folder.put_manifest(manifest):
            _prune(folder)
            refresh_index(folder, manifest)
            return manifest
    raise StoreDamagedError(f"{folder.path} changes faster than it can be written down")


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
        remove(folder.manifests / manifests.file_name(number))


GRACE_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Collection:
    """What was done: shards moved into the trash, and files and bytes removed from it and from ``tmp``."""

    shards_moved: int
    files_removed: int
    bytes_removed: int


def collect(folder: SpaceFolder, *, grace_seconds: float = GRACE_SECONDS) -> Collection:
    """Moves retired shards into the trash, and removes what has lain there, or in ``tmp``, for the grace time.

    The clock decides only how long a file can still be taken out by hand: readers who have lost a shard to the trash
    read its successor, and a writer who has lost its file fails and may begin again.
    """
    retired = checkpoint(folder).retired
    if retired:
        # Another process may have written the manifest and not have come so far as to make it durable.
        sync_folder(folder.manifests)
        if not folder.trash.is_dir():
            make_folder(folder.trash)
    moved = sum(move(folder.shards / name, folder.trash / name) for name in sorted(retired))
    if moved:
        sync_folder(folder.trash)
        sync_folder(folder.shards)
    places: tuple[Place, ...] = (folder.trash, folder.tmp)
    files = [place / name for place in places for name in names_in(place)]
    sizes = [_remove_if_old(path, grace_seconds) for path in files]
    removed = [size for size in sizes if size is not None]
    return Collection(moved, len(removed), sum(removed))


def _remove_if_old(path: Place, grace_seconds: float) -> int | None:
    try:
        size, changed = size_and_change(path)
    except FileNotFoundError:
        return None
    if time.time() - changed < grace_seconds or not remove(path):
        return None
    return size
