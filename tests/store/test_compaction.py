"""Compaction and collection: fewer shards, equal results, little memory, and no loss."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from penult.errors import StoreWriteError
from penult.store import Space
from penult.store.spaces import compaction
from tests.store.rig.samples import add, batches_in, keys_of, rows_of


def names(space: Space, part: str) -> list[str]:
    return sorted(path.name for path in (space.path / part).iterdir())


def test_compaction_merges_small_shards_and_collect_removes_them_after_the_grace_time(space: Space) -> None:
    for batch in range(6):
        add(space, batch)
    done = space.compact()
    assert (done.shards_before, done.shards_after) == (6, 1)
    assert len(names(space, "shards")) == 7
    assert batches_in(space) == set(range(6))

    moved = space.collect()
    assert (moved.shards_moved, moved.files_removed) == (6, 0)
    assert len(names(space, "trash")) == 6
    removed = space.collect(grace_seconds=0)
    assert (removed.shards_moved, removed.files_removed) == (0, 6)
    assert removed.bytes_removed > 6 * 12_000
    assert [len(names(space, part)) for part in ("shards", "trash", "tmp")] == [1, 0, 0]
    assert batches_in(space) == set(range(6))


def test_compaction_fills_shards_and_keeps_large_ones(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction.compact, "__kwdefaults__", {"target_bytes": 6 * 20, "progress": None})
    keys = keys_of(0, 100)
    space.add(keys[:30], rows_of(keys[:30]))
    large = names(space, "shards")
    for start in range(30, 100, 7):
        space.add(keys[start : start + 7], rows_of(keys[start : start + 7]))
    done = space.compact()
    assert done.shards_before == 11
    assert done.shards_after == 6
    space.collect(grace_seconds=0)
    assert set(large) <= set(names(space, "shards"))
    assert np.array_equal(space.gather(keys), rows_of(keys))
    assert space.compact().shards_after == 6


def test_compaction_reports_its_progress(space: Space) -> None:
    for batch in range(3):
        add(space, batch)
    told: list[tuple[int, int]] = []
    space.compact(progress=lambda done, total: told.append((done, total)))
    space.verify(progress=lambda done, total: told.append((done, total)))
    size = space.stats().size_bytes
    assert told == [(0, 1), (1, 1), (size, size)]


def test_compaction_without_small_shards_changes_nothing(space: Space) -> None:
    assert space.compact().shards_after == 0
    add(space, 0)
    before = names(space, "shards")
    assert space.compact().shards_after == 1
    assert names(space, "shards") == before


def test_a_merged_shard_that_reads_back_differently_is_not_published(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(space, 0)
    add(space, 1)
    before = names(space, "shards")
    monkeypatch.setattr(compaction, "digest_on_disk", lambda _: "0" * 32)
    with pytest.raises(StoreWriteError, match="other bytes"):
        space.compact()
    assert names(space, "shards") == before
    assert names(space, "tmp") == []
    assert batches_in(space) == {0, 1}


def test_collect_removes_only_old_temporary_files(space: Space) -> None:
    add(space, 0)
    (space.path / "tmp" / "left.h5").write_bytes(b"half a shard")
    assert space.collect().files_removed == 0
    assert space.collect(grace_seconds=0).files_removed == 1
    assert names(space, "tmp") == []


GROWTH = """
import resource, sys
import numpy as np
from penult.store import SpaceSpec, open_store
from penult.store.spaces import compaction

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

space = open_store(sys.argv[1]).space(SpaceSpec("b", "ab" * 32, "penultimate", 4096))
chance = np.random.default_rng(0)
keys = chance.integers(0, 256, (1024, 16), dtype=np.uint8)
rows = chance.standard_normal((1024, 4096)).astype(np.float16)
peaks = []
for _ in range(int(sys.argv[2])):
    keys[:, 0] += 1
    space.add(keys, rows)
peaks.append(peak())
compaction.compact(space._folder, target_bytes=1 << 25)
peaks.append(peak())
print(*peaks)
"""


def peaks(path: Path, shards: int) -> list[int]:
    command = [sys.executable, "-c", GROWTH, str(path), str(shards)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(word) for word in result.stdout.split()]


def test_add_and_compact_use_memory_for_one_shard(tmp_path: Path) -> None:
    small, large = peaks(tmp_path / "small", 5), peaks(tmp_path / "large", 20)
    assert large[0] - small[0] < 20
    assert large[1] - small[1] < 40
