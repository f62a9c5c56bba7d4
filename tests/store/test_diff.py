"""Two stores are equal if they contain equal rows under equal keys in equal spaces."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from penult.store import SpaceSpec, Store, open_store
from penult.store.diff import diff_stores

SPEC = SpaceSpec("some", "ab" * 32, "penultimate", 5)
KEYS = np.random.default_rng(0).integers(0, 256, (60, 16), dtype=np.uint8)
ROWS = np.random.default_rng(1).standard_normal((60, 5)).astype(np.float16)


def made(path: Path, *cuts: int, spec: SpaceSpec = SPEC) -> Store:
    store = open_store(path)
    for keys, rows in zip(np.split(KEYS, cuts), np.split(ROWS, cuts), strict=True):
        store.space(spec).add(keys, rows)
    return store


def test_history_and_shards_make_no_difference(tmp_path: Path) -> None:
    first, second = made(tmp_path / "first", 10, 30), made(tmp_path / "second")
    first.space(SPEC).compact()
    told: list[tuple[int, int]] = []
    (found,) = diff_stores(first, second, progress=lambda done, total: told.append((done, total)))
    assert (found.is_empty, found.same, told[-1]) == (True, 60, (120, 120))


def test_missing_and_different_rows_are_listed(tmp_path: Path) -> None:
    first, second = open_store(tmp_path / "first"), open_store(tmp_path / "second")
    other = ROWS.copy()
    other[20, 4] = np.nextafter(other[20, 4], np.float16(9), dtype=np.float16)
    first.space(SPEC).add(KEYS[:50], ROWS[:50])
    second.space(SPEC).add(KEYS[5:], other[5:])
    (found,) = diff_stores(first, second)
    assert not found.is_empty
    assert found.same == 44
    assert {key.tobytes() for key in found.only_in_first} == {key.tobytes() for key in KEYS[:5]}
    assert {key.tobytes() for key in found.only_in_second} == {key.tobytes() for key in KEYS[50:]}
    assert [key.tobytes() for key in found.different] == [KEYS[20].tobytes()]


def test_zeros_of_different_sign_differ(tmp_path: Path) -> None:
    first, second = open_store(tmp_path / "first"), open_store(tmp_path / "second")
    first.space(SPEC).add(KEYS[:1], np.zeros((1, 5), dtype=np.float16))
    second.space(SPEC).add(KEYS[:1], -np.zeros((1, 5), dtype=np.float16))
    (found,) = diff_stores(first, second)
    assert len(found.different) == 1


def test_a_space_missing_in_one_store_counts_as_empty(tmp_path: Path) -> None:
    first, second = made(tmp_path / "first"), made(tmp_path / "second")
    made(second.path, spec=replace(SPEC, tap="stage1"))
    by_tap = {found.spec.tap: found for found in diff_stores(first, second)}
    assert by_tap["penultimate"].is_empty
    assert len(by_tap["stage1"].only_in_second) == 60
    assert diff_stores(open_store(tmp_path / "a"), open_store(tmp_path / "b")) == []


def test_spaces_without_rows_are_the_same(tmp_path: Path) -> None:
    first, second = open_store(tmp_path / "first"), open_store(tmp_path / "second")
    first.space(SPEC)
    second.space(SPEC)
    (found,) = diff_stores(first, second)
    assert (found.is_empty, found.same) == (True, 0)
