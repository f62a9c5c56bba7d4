"""Reads the sound rows of damaged and replaced shards, row by row."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penult.errors import StoreError
from penult.store.files.protocol import StoragePath
from penult.store.keys import Keys, no_keys
from penult.store.shards.checksums import Stored, row_sums
from penult.store.shards.key_table import ABSENT
from penult.store.shards.shard import NewShard, Shard, empty_rows
from penult.store.spaces import index
from penult.store.spaces.index import Index
from penult.store.spaces.lookup import Lookup
from penult.store.spaces.space_folder import ShardList, SpaceFolder


@dataclass(frozen=True)
class Salvage:
    """The sound rows of a shard with their keys, and the keys whose rows are damaged."""

    keys: Keys
    rows: Stored
    damaged: Keys


def salvage(path: StoragePath, folder: SpaceFolder) -> Salvage | None:
    """Reads the sound rows of a shard; returns None if its keys cannot be read."""
    spec = folder.spec
    try:
        with Shard.open(path, spec) as shard:
            keys = shard.keys()
            rows = empty_rows(spec, len(keys))
            is_sound = _read_sound_rows(shard, keys, rows)
    except (FileNotFoundError, StoreError):
        return None
    return Salvage(keys[is_sound], rows[is_sound], keys[~is_sound])


def _read_sound_rows(shard: Shard, keys: Keys, rows: Stored) -> NDArray[np.bool_]:
    is_read = np.ones(len(rows), dtype=np.bool_)
    try:
        shard.read_rows(0, rows)
    except (FileNotFoundError, StoreError):
        # One bad sector makes the whole read fail; the other rows may be sound.
        for i in range(len(rows)):
            try:
                shard.read_rows(i, rows[i : i + 1])
            except (FileNotFoundError, StoreError):
                rows[i], is_read[i] = 0, False
    is_sound: NDArray[np.bool_] = is_read & (row_sums(keys, rows) == shard.row_sums())
    return is_sound


def indexed_keys(folder: SpaceFolder, name: str) -> Keys:
    """Returns the keys of an unreadable shard that an index still lists."""
    for file_name in sorted(folder.index.names(), reverse=True):
        try:
            if index.NAME.fullmatch(file_name):
                found = Index.open(folder.index_file(file_name), folder.spec.id)
                if name in found.shards:
                    return _keys_of(found, ShardList(folder, found.shards), name)
        except (FileNotFoundError, StoreError):
            continue
    return no_keys()


def _keys_of(found: Index, shards: ShardList, name: str) -> Keys:
    place = shards.names.index(name)
    keys = [no_keys()]
    for table in found.tables():
        is_in = (table.positions >= shards.starts[place]) & (table.positions < shards.starts[place + 1])
        keys.append(table.keys()[is_in])
    return np.concatenate(keys)


def bring_back(folder: SpaceFolder, path: StoragePath, others: Lookup | None = None) -> None:
    """Commits the sound rows of a shard again, without those whose keys ``others`` contains."""
    found = salvage(path, folder)
    if found is None:
        return
    is_wanted = np.ones(len(found.keys), dtype=np.bool_) if others is None else others.find(found.keys) == ABSENT
    if is_wanted.any():
        rows = found.rows[is_wanted]
        folder.put_shard(NewShard(folder.spec, found.keys[is_wanted], lambda first, end: rows[first:end]))
