"""Compaction: many small shards become few large ones, so that opening and reading stay quick; no answer changes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from xxhash import xxh3_128

from penult.errors import StoreDamagedError, StoreWriteError
from penult.store.files.durable import publish, remove
from penult.store.files.open_file import open_file
from penult.store.files.places import Place
from penult.store.shards.checksums import Stored
from penult.store.shards.shard import NewShard, ShardName, room_for
from penult.store.spaces.checkpoints import checkpoint
from penult.store.spaces.reading import Reader
from penult.store.spaces.shard_list import ShardList
from penult.store.spaces.snapshot import take
from penult.store.spaces.space_folder import SpaceFolder

TARGET_BYTES = 1 << 30
PIECE_BYTES = 1 << 25
TILE_BYTES = 1 << 20

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""


@dataclass(frozen=True)
class Compaction:
    """What a compaction changed: how many shards there were, and how many there are."""

    shards_before: int
    shards_after: int


def compact(folder: SpaceFolder, *, target_bytes: int = TARGET_BYTES, progress: Progress | None = None) -> Compaction:
    """Merges shards of less than half of ``target_bytes``, as many at once as fill it.

    The shards that were merged stay in the folder until they are collected. Memory is needed for some of the rows.
    """
    before = take(folder).live
    groups = list(_groups(before, max(target_bytes // folder.spec.row_bytes, 1)))
    for done, group in enumerate(groups):
        if progress:
            progress(done, len(groups))
        _merge(folder, group)
    if progress and groups:
        progress(len(groups), len(groups))
    return Compaction(len(before), len(checkpoint(folder).shards))


def _groups(names: Sequence[str], target_rows: int) -> Iterator[tuple[str, ...]]:
    group: list[str] = []
    rows = 0
    small = [(shard.rows, name) for name in names if (shard := ShardName.known(name)).rows * 2 < target_rows]
    for count, name in sorted(small):
        if group and rows + count > target_rows:
            yield tuple(group)
            group, rows = [], 0
        group.append(name)
        rows += count
    if len(group) > 1:
        yield tuple(group)


def _merge(folder: SpaceFolder, group: tuple[str, ...]) -> None:
    """Publishes a shard that holds the rows of some others, unless these have been merged by another meanwhile."""
    shards = ShardList(folder, group)
    try:
        table = shards.table()
        keys = table.keys()

        def rows_between(first: int, end: int) -> Stored:
            rows = room_for(folder.spec, end - first)
            Reader(shards, keys[first:end], rows).read(table.positions[first:end])
            return rows

        merged = NewShard(folder.spec, keys, rows_between, replaces=group, piece_bytes=PIECE_BYTES)
        temporary = folder.write(".h5", merged.parts())
    except FileNotFoundError:
        return
    if digest_on_disk(temporary) != ShardName.known(merged.name).digest:
        remove(temporary)
        raise StoreWriteError(f"The disk gives back other bytes than were written to {temporary}", remedy="check it")
    if set(group) <= set(take(folder).live):
        publish(temporary, folder.shards / merged.name)
    else:
        remove(temporary)


def digest_on_disk(path: Place, progress: Callable[[int], None] | None = None) -> str:
    """Reads a whole file and returns its XXH3-128; asks the system to read the disk and not its own memory."""
    digest, tile = xxh3_128(), memoryview(bytearray(TILE_BYTES))
    file, offset = open_file(path), 0
    try:
        file.drop_cache()
        while count := file.read_into(tile, offset):
            digest.update(tile[:count])
            offset += count
            if progress:
                progress(count)
    except OSError as error:
        raise StoreDamagedError(f"{path} cannot be read: {error.strerror or error}", remedy="check the disk") from error
    finally:
        file.close()
    return digest.hexdigest()
