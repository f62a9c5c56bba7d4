"""The public interface of a space: rows are read as they were added, and invalid rows raise."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from penult.errors import InputError, RowsRefusedError, StoreFormatError, UnknownNameError
from penult.store import Space, SpaceSpec, key_array, key_of, open_store
from tests.store.rig.samples import SPEC, WIDTH, add, batches_in, keys_of, rows_of


def some(n: int, seed: int = 0, width: int = WIDTH) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 16), dtype=np.uint8), rng.standard_normal((n, width)).astype(np.float16)


def test_rows_are_read_in_the_order_of_the_given_keys(space: Space) -> None:
    keys, rows = some(1000)
    space.add(keys[:300], rows[:300])
    space.add(keys[200:], rows[200:])
    order = np.random.default_rng(1).permutation(1000)
    assert np.array_equal(space.gather(keys[order]), rows[order])
    assert np.array_equal(space.load(keys[order]).features, rows[order])
    assert space.gather(keys[:2]).dtype == np.float32


def test_load_returns_all_rows_sorted_by_key(space: Space) -> None:
    keys, rows = some(1000)
    for start in range(0, 1000, 100):
        space.add(keys[start : start + 100], rows[start : start + 100])
    order = sorted(range(1000), key=lambda i: keys[i].tobytes())
    everything = space.load()
    assert np.array_equal(everything.keys, keys[order])
    assert np.array_equal(everything.features, rows[order])
    assert everything.features.dtype == np.float32


def test_keys_lists_the_keys_of_all_rows(space: Space) -> None:
    keys, rows = some(40)
    space.add(keys[25:], rows[25:])
    space.add(keys[:30], rows[:30])
    space.checkpoint()
    space.add(keys[:5], rows[:5])
    found = space.keys()
    assert [key.tobytes() for key in found] == sorted(key.tobytes() for key in keys)


def test_a_key_may_occur_more_than_once(space: Space) -> None:
    keys, rows = some(300)
    space.add(keys, rows)
    asked = np.random.default_rng(0).integers(0, 300, 2000)
    assert np.array_equal(space.gather(keys[asked]), rows[asked])


@pytest.mark.parametrize("width", [1, 7, 1280, 30_000])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_of_any_width_are_read_in_any_selection(tmp_path: Path, width: int, dtype: str) -> None:
    spec = SpaceSpec("b", "ab" * 32, "penultimate", width, dtype=dtype)  # type: ignore[arg-type] # both are allowed
    space = open_store(tmp_path).space(spec)
    count = min(20_000_000 // (width * 4 + 100), 40_000)
    keys, rows = some(count, width=width)
    space.add(keys[: count // 2], rows[: count // 2].astype(np.float64))
    space.add(keys[count // 2 :], rows[count // 2 :])
    assert np.array_equal(space.load().features, rows[np.lexsort(keys.T[::-1])])
    rng = np.random.default_rng(0)
    for asked in (rng.permutation(count), rng.integers(0, count, 5), np.arange(count // 3), np.arange(0, count, 9)):
        assert np.array_equal(space.gather(keys[asked]), rows[asked])


def test_load_returns_the_stored_dtype_on_request(space: Space, tmp_path: Path) -> None:
    keys, rows = some(10)
    space.add(keys, rows)
    stored = space.load(keys, dtype="float16")
    assert stored.features.dtype == np.float16
    assert np.array_equal(stored.features, rows)
    wide = open_store(tmp_path / "wide").space(SpaceSpec("b", "ab" * 32, "penultimate", WIDTH, dtype="float32"))
    wide.add(keys, rows.astype(np.float32) / 3)
    assert np.array_equal(wide.gather(keys), rows.astype(np.float32) / 3)
    with pytest.raises(InputError, match="stores float32"):
        wide.load(dtype="float16")


def test_missing_returns_distinct_keys_in_the_given_order(space: Space) -> None:
    keys, rows = some(3)
    space.add(keys[:1], rows[:1])
    a, b = key_of(b"a"), bytes(16)
    asked = key_array([b, a, keys[0].tobytes(), b])
    assert [key.tobytes() for key in space.missing(asked)] == [b, a]
    assert keys[0].tobytes() in space
    assert a not in space
    assert len(space.missing([])) == 0


def test_with_patience_missing_sees_own_rows_at_once_and_others_later(space: Space) -> None:
    keys, rows = some(3)
    other = open_store(space.path.parents[1]).space(SPEC)
    assert len(space.missing(keys, patience=60)) == 3
    other.add(keys[:1], rows[:1])
    assert len(space.missing(keys, patience=60)) == 3
    assert len(space.missing(keys)) == 2
    space.add(keys[1:2], rows[1:2])
    assert len(space.missing(keys, patience=60)) == 1


def test_the_error_counts_keys_without_a_row_and_names_one(space: Space) -> None:
    keys, rows = some(3)
    space.add(keys[:1], rows[:1])
    with pytest.raises(UnknownNameError, match=rf"2 of 3 keys have no row.*{keys[1].tobytes().hex()}"):
        space.gather(keys)


def test_an_empty_space_is_empty(space: Space) -> None:
    assert len(space) == 0
    assert space.load().features.shape == (0, WIDTH)
    assert space.gather([]).shape == (0, WIDTH)
    assert len(space.missing(keys_of(0))) == 4
    space.add([], np.empty((0, WIDTH), np.float32))
    assert space.stats().shards == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda k, r: (k, r[:, :2]), r"\(4, 2\).*\(n, 3\)"),
        (lambda k, r: (k, r[0]), r"\(3,\)"),
        (lambda k, r: (k[:3], r), "3 keys and 4 rows"),
        (lambda k, r: (k, r.astype(np.int32)), "int32"),
        (lambda k, r: (k, r.astype(np.complex64)), "complex64"),
        (lambda k, r: (k, np.where(r == r[2, 1], np.nan, r)), "NaN or infinity, for example the row of the key"),
        (lambda k, r: (k, np.where(r == r[2, 1], -np.inf, r)), "NaN or infinity"),
        (lambda k, r: (k, r + 70_000), "float32"),
        (lambda k, r: (np.concatenate([k[:3], k[:1]]), r), "comes twice with different rows"),
    ],
)
def test_invalid_rows_raise_and_nothing_is_written(space: Space, change, words: str) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 - a lambda from above
    keys, rows = some(4)
    with pytest.raises(RowsRefusedError, match=words):
        space.add(*change(keys, rows.astype(np.float64)))
    assert [list((space.path / part).iterdir()) for part in ("shards", "tmp", "manifests")] == [[], [], []]


@pytest.mark.parametrize(
    "keys", [[b"short"], np.zeros((1, 15), np.uint8), np.zeros((1, 16), np.int8), np.zeros(16, np.uint8)]
)
def test_invalid_keys_raise(space: Space, keys: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match="16"):
        space.missing(keys)


def test_a_repeated_row_in_a_batch_counts_once(space: Space) -> None:
    keys, rows = keys_of(0), rows_of(keys_of(0))
    space.add(np.concatenate([keys, keys]), np.concatenate([rows, rows]))
    assert batches_in(space) == {0}
    assert space.stats().rows == 4


def test_adding_again_is_harmless(space: Space) -> None:
    for batch in (0, 1, 0, 0, 1):
        add(space, batch)
    stats = space.stats()
    assert (stats.keys, stats.rows, stats.shards) == (8, 20, 5)
    assert batches_in(space) == {0, 1}
    space.compact()
    assert space.stats().rows == 8
    assert batches_in(space) == {0, 1}


def test_another_handle_sees_what_this_one_adds(space: Space) -> None:
    other = open_store(space.path.parents[1]).space(SPEC)
    assert len(other) == 0
    add(space, 0)
    assert batches_in(other) == {0}
    add(other, 1)
    assert batches_in(space) == {0, 1}


def test_a_shard_of_another_space_raises(space: Space, tmp_path: Path) -> None:
    other = open_store(tmp_path / "other").space(SpaceSpec("lite0", "cd" * 32, "penultimate", WIDTH))
    add(other, 0)
    foreign = next((other.path / "shards").iterdir())
    (space.path / "shards" / foreign.name).write_bytes(foreign.read_bytes())
    with pytest.raises(StoreFormatError, match="belongs to space"):
        space.load()


def test_the_id_of_a_space_depends_only_on_what_changes_its_rows() -> None:
    spec = SpaceSpec("lite0", "ab" * 32, "penultimate", 1280, card={"licence": "Apache-2.0"})
    assert spec.id == SpaceSpec("renamed", "ab" * 32, "penultimate", 1280).id
    assert spec == SpaceSpec("renamed", "ab" * 32, "penultimate", 1280)
    others = [
        SpaceSpec("lite0", "cd" * 32, "penultimate", 1280),
        SpaceSpec("lite0", "ab" * 32, "stage1", 1280),
        SpaceSpec("lite0", "ab" * 32, "penultimate", 1281),
        SpaceSpec("lite0", "ab" * 32, "penultimate", 1280, view="hflip"),
        SpaceSpec("lite0", "ab" * 32, "penultimate", 1280, dtype="float32"),
    ]
    assert len({spec.id, *(other.id for other in others)}) == 6
    assert SpaceSpec.from_json(spec.to_json()).card == {"licence": "Apache-2.0"}
    assert [spec.name, others[3].name, others[4].name] == [
        "lite0:penultimate",
        "lite0:penultimate:hflip",
        "lite0:penultimate:float32",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"fingerprint": "AB" * 32},
        {"fingerprint": "ab"},
        {"tap": ""},
        {"tap": "a\nb"},
        {"width": 0},
        {"width": 1 << 40},
        {"dtype": "int8"},
    ],
)
def test_an_invalid_spec_raises(wrong: dict[str, object]) -> None:
    sound = {"backbone": "lite0", "fingerprint": "ab" * 32, "tap": "penultimate", "width": 3}
    with pytest.raises(InputError):
        SpaceSpec(**{**sound, **wrong})  # type: ignore[arg-type] # wrong on purpose
    with pytest.raises(StoreFormatError):
        SpaceSpec.from_json({**sound, "view": "identity", "dtype": "float16", **wrong})
