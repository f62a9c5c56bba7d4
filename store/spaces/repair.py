"""Repair: damaged files are set aside, and every row that can still be read somewhere is kept."""

from dataclasses import replace

from penult.store.files.durable import make_folder, move, remove, sync_folder
from penult.store.files.folders import names_in
from penult.store.shards.key_table import ABSENT
from penult.store.shards.shard import ShardName
from penult.store.spaces.checkpoints import checkpoint
from penult.store.spaces.lookup import Lookup
from penult.store.spaces.salvage import bring_back
from penult.store.spaces.snapshot import survey
from penult.store.spaces.space_folder import SpaceFolder
from penult.store.spaces.verification import SpaceReport


def repair(folder: SpaceFolder, report: SpaceReport) -> SpaceReport:
    """Moves what a report names into quarantine, and returns the report with only the keys that are really gone.

    Sound rows of damaged shards are committed anew, as are rows of superseded shards that have not been removed yet.
    """
    damaged = [damage.path for damage in report.damage]
    bad = frozenset(path.name for path in damaged if path.parent == folder.shards)
    for name in sorted(bad):
        bring_back(folder, folder.shards / name)
    if bad:
        _bring_back_superseded(folder, bad)
    checkpoint(folder, without=bad)
    make_folder(folder.quarantine)
    for path in damaged:
        if path.parent == folder.index:
            remove(path)
        else:
            move(path, folder.quarantine / path.name)
    for changed in {path.parent for path in damaged} | {folder.quarantine}:
        sync_folder(changed)
    held = Lookup.of(folder, frozenset(survey(folder).live))
    left = [replace(damage, keys=damage.keys[held.find(damage.keys) == ABSENT]) for damage in report.damage]
    return replace(report, damage=tuple(left))


def _bring_back_superseded(folder: SpaceFolder, bad: frozenset[str]) -> None:
    idle = [folder.shards / name for name in survey(folder).idle - bad]
    trash = [folder.trash / name for name in names_in(folder.trash) if ShardName.parse(name)]
    for path in sorted(idle + trash, key=str):
        bring_back(folder, path, Lookup.of(folder, frozenset(survey(folder).live) - bad))
