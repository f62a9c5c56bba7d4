"""Compaction merges small shards into large ones for fast opening and reading. It changes no result."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from xxhash import xxh3_128

from penult.errors import StoreDamagedError, StoreWriteError
from penult.store.files.protocol import StoragePath
from penult.store.shards.checksums import Stored
from penult.store.shards.shard import NewShard, ShardName, empty_rows
from penult.store.spaces.checkpoints import checkpoint
from penult.store.spaces.reading import Reader
from penult.store.spaces.snapshot import take_snapshot
from penult.store.spaces.space_folder import ShardList, SpaceFolder

TARGET_BYTES = 1 << 30
PIECE_BYTES = 1 << 25
TILE_BYTES = 1 << 20

Progress = Callable[[int, int], None]
"""Receives the number of finished units and the total."""


@dataclass(frozen=True)
class Compaction:
    """The numbers of shards before and after a compaction."""

    shards_before: int
    shards_after: int


def compact(folder: SpaceFolder, *, target_bytes: int = TARGET_BYTES, progress: Progress | None = None) -> Compaction:
    """Merges shards smaller than half of ``target_bytes`` into shards of about that size.

    The merged shards stay in the folder until they are collected. Only a part of the rows is in memory at a time.
    """
    before = take_snapshot(folder).live
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
    """Publishes a shard with the rows of a group, unless another process has merged one of them meanwhile."""
    shards = ShardList(folder, group)
    try:
        table = shards.table()
        keys = table.keys()

        def rows_between(first: int, end: int) -> Stored:
            rows = empty_rows(folder.spec, end - first)
            Reader(shards, keys[first:end], rows).read(table.positions[first:end])
            return rows

        merged = NewShard(folder.spec, keys, rows_between, replaces=group, piece_bytes=PIECE_BYTES)
        temporary = folder.write(".h5", merged.parts())
    except FileNotFoundError:
        return
    if digest_on_disk(temporary) != ShardName.known(merged.name).digest:
        temporary.remove()
        raise StoreWriteError(f"The disk returns other bytes than were written to {temporary}", remedy="check the disk")
    if set(group) <= set(take_snapshot(folder).live):
        (folder.shards / merged.name).publish(temporary)
    else:
        temporary.remove()


def digest_on_disk(path: StoragePath, progress: Callable[[int], None] | None = None) -> str:
    """Returns the XXH3-128 of a whole file; bypasses the system's cache where that is possible."""
    digest, tile = xxh3_128(), memoryview(bytearray(TILE_BYTES))
    file, offset = path.open_file(), 0
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
