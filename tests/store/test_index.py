"""Finding rows through the index and newer shards, with difficult keys."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from penult.store import Space, open_store
from penult.store.files.local import LocalPath
from penult.store.keys import halves, key_of
from penult.store.shards.key_table import ABSENT
from penult.store.spaces import index
from penult.store.spaces import lookup as indexing
from penult.store.spaces.index import Index
from tests.store.rig.samples import SPEC, rows_of


@pytest.fixture(autouse=True)
def _small_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "WORTH_ROWS", 1)
    monkeypatch.setattr(indexing, "RANGE_KEYS", 100)
    monkeypatch.setattr(index, "BLOCK_KEYS", 8)
    monkeypatch.setattr(index, "RUN_BLOCKS", 3)


def hashed(count: int) -> NDArray[np.uint8]:
    return np.array([list(key_of(bytes([i % 256, i // 256]))) for i in range(count)], dtype=np.uint8)


def with_few_first_halves(count: int) -> NDArray[np.uint8]:
    keys = hashed(count)
    keys[:, :8] = 0
    keys[:, 0] = np.arange(count) % 3
    return keys


def counting(count: int) -> NDArray[np.uint8]:
    keys = np.zeros((count, 16), dtype=np.uint8)
    keys[:, 14:] = np.arange(count, dtype=">u2").view(np.uint8).reshape(-1, 2)
    return keys


def extremes(count: int) -> NDArray[np.uint8]:
    keys = hashed(count)
    keys[0], keys[1] = 0, 255
    return keys


KINDS = [hashed, with_few_first_halves, counting, extremes]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("indexed", [0, 1, 8, 100, 437, 500])
def test_lookup_finds_every_key_and_no_other(space: Space, kind, indexed: int) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 - one of the functions above
    keys = kind(700)
    present, absent = keys[:500], keys[500:]
    for start in range(0, indexed, 50):
        part = present[start : min(start + 60, indexed)]
        space.add(part, rows_of(part))
    space.checkpoint()
    if indexed < 500:
        space.add(present[max(indexed - 10, 0) :], rows_of(present[max(indexed - 10, 0) :]))
    again = open_store(space.path.parents[1]).space(SPEC)
    for seen in (space, again):
        assert len(seen) == 500
        assert np.array_equal(seen.gather(present), rows_of(present))
        assert np.array_equal(seen.missing(keys), absent)
        everything = seen.load()
        assert np.array_equal(everything.keys, present[np.lexsort(present.T[::-1])])
        assert np.array_equal(everything.features, rows_of(everything.keys))
    assert bool(list((space.path / "index").iterdir())) == (indexed > 0)


def test_single_keys_are_found_without_reading_the_whole_index(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = hashed(500)
    space.add(keys, rows_of(keys))
    space.checkpoint()
    opened = Index.open(LocalPath(next((space.path / "index").iterdir())), SPEC.id)
    reading, blocks = Index._read, []

    def counted(self: Index, first: int, end: int) -> NDArray[np.uint64]:
        blocks.append(end - first)
        return reading(self, first, end)

    monkeypatch.setattr(Index, "_read", counted)
    assert (opened.find(*halves(keys[7:8])) != ABSENT).all()
    assert blocks == [1]


def test_a_lookup_asks_the_index_only_for_its_keys(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = hashed(500)
    space.add(keys[:400], rows_of(keys[:400]))
    space.checkpoint()
    space.add(keys[400:], rows_of(keys[400:]))
    assert not len(space.missing(keys))
    finding, asked = Index.find, []

    def counted(self: Index, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.int64]:
        asked.append(len(high))
        return finding(self, high, low)

    monkeypatch.setattr(Index, "find", counted)
    assert not len(space.missing(keys[7:9]))
    assert asked == [2]


def test_the_index_grows_with_the_space_and_only_the_newest_stays(space: Space) -> None:
    keys = hashed(700)
    numbers = []
    for start in range(0, 700, 50):
        space.add(keys[start : start + 50], rows_of(keys[start : start + 50]))
        space.checkpoint()
        (only,) = (space.path / "index").iterdir()
        numbers.append(only.name)
    assert numbers == sorted(numbers)
    assert 4 < len(set(numbers)) < len(numbers)


def test_compaction_makes_a_new_index(space: Space) -> None:
    keys = hashed(300)
    for start in range(0, 300, 50):
        space.add(keys[start : start + 50], rows_of(keys[start : start + 50]))
    space.checkpoint()
    before = next((space.path / "index").iterdir()).name
    space.compact()
    (after,) = (space.path / "index").iterdir()
    assert after.name > before
    assert Index.open(LocalPath(after), SPEC.id).shards == tuple(path.name for path in live(space))
    assert np.array_equal(space.gather(keys), rows_of(keys))


def live(space: Space) -> list[Path]:
    return [path for path in (space.path / "shards").iterdir() if "merged" in path.name]


def test_the_row_that_counts_does_not_depend_on_an_index(space: Space, tmp_path: Path) -> None:
    keys = hashed(40)
    one, other = rows_of(keys), rows_of(keys) + 1
    space.add(keys, one)
    space.checkpoint()
    space.add(keys, other)
    assert len(space) == 40
    mixed = space.gather(keys)
    assert 5 < (mixed == one).all(axis=1).sum() < 35
    assert ((mixed == one) | (mixed == other)).all()
    assert np.array_equal(space.load(keys[::-1]).features, mixed[::-1])
    reverse = open_store(tmp_path / "reverse").space(SPEC)
    reverse.add(keys, other)
    reverse.add(keys, one)
    assert np.array_equal(reverse.gather(keys), mixed)
    everything, same = space.load(), reverse.load()
    assert np.array_equal(everything.features, same.features)
    assert np.array_equal(everything.keys, same.keys)
    space.compact()
    assert np.array_equal(space.gather(keys), mixed)


def test_a_growing_space_is_indexed_less_and_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "STALE_SHARDS", 1)
    space = open_store(tmp_path / "store").space(SPEC)
    keys = hashed(1080)
    space.add(keys[:1000], rows_of(keys[:1000]))
    space.checkpoint()
    made = []
    for number in range(80):  # single rows, so that the number of shards decides
        key = keys[1000 + number : 1001 + number]
        space.add(key, rows_of(key), checkpoint=False)
        space.checkpoint()
        (present,) = (space.path / "index").iterdir()
        made.append(present.name)
    late = len(set(made[40:]))
    assert 2 <= late <= 9, "one shard in eight, and not every second one, are worth a new index"
    assert not len(space.missing(keys))
