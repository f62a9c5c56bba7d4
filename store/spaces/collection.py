"""Collection of what is no longer needed: retired shards, and files that a killed writer left behind."""

import time
from dataclasses import dataclass

from penult.store.durable import make_folder, move, remove, sync_folder
from penult.store.folders import names_in, size_and_change
from penult.store.objects.places import Place
from penult.store.spaces.checkpoint import checkpoint
from penult.store.spaces.spacefolder import SpaceFolder

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
