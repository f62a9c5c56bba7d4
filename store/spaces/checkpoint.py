"""Checkpoints: what is in the folder of a space is written down, so that a later loss is noticed."""

from penult.errors import StoreDamagedError
from penult.store.durable import remove, sync_folder
from penult.store.spaces import manifests
from penult.store.spaces.indexing import refresh_index
from penult.store.spaces.manifests import Manifest
from penult.store.spaces.snapshot import ATTEMPTS, Snapshot, replaced_by, require_whole, survey
from penult.store.spaces.spacefolder import SpaceFolder


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
