"""Splits by key, stable and with every class in each split; leaks and contradictions."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.keys import key_array, key_of
from penult.store.tables.leaks import find_contradictions, find_leaks
from penult.store.tables.splits import split_by_key, split_by_time

quick = settings(deadline=None, max_examples=50)

Samples = list[tuple[int, int, int]]
THREE = {"train": 0.6, "val": 0.2, "test": 0.2}


def keys_of(numbers: list[int]) -> NDArray[np.uint8]:
    return key_array(key_of(str(number).encode()) for number in numbers)


def many(count: int, start: int = 0) -> NDArray[np.uint8]:
    return keys_of(list(range(start, start + count)))


samples = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 4), st.integers(0, 12)), max_size=60)
"""Image number, class and group; an image may occur twice, with two classes and two groups."""


@quick
@given(old=samples, new=samples, fractions=st.sampled_from([{"train": 0.8, "test": 0.2}, THREE]))
def test_adding_samples_moves_no_older_one(old: Samples, new: Samples, fractions: Mapping[str, float]) -> None:
    first_keys = keys_of([number for number, _, _ in old])
    first = split_by_key(first_keys, [label for _, label, _ in old], fractions=fractions)
    previous = {key.tobytes(): side for key, side in zip(first_keys, first, strict=True)}
    both = old + new
    order = np.random.default_rng(len(both)).permutation(len(both))
    keys = keys_of([both[place][0] for place in order])
    second = split_by_key(keys, [both[place][1] for place in order], fractions=fractions, previous=previous)
    for key, side in zip(keys, second, strict=True):
        assert previous.get(key.tobytes(), side) == side


@quick
@given(rows=samples)
def test_without_labels_only_the_key_decides(rows: Samples) -> None:
    keys = keys_of([number for number, _, _ in rows])
    whole = split_by_key(keys)
    for row in range(len(keys)):
        assert split_by_key(keys[row : row + 1])[0] == whole[row]


@quick
@given(rows=samples, fractions=st.sampled_from([{"train": 0.95, "test": 0.05}, THREE]), seed=st.integers(0, 9))
def test_every_class_with_enough_samples_is_in_each_split(
    rows: Samples, fractions: Mapping[str, float], seed: int
) -> None:
    rows = list({number: (number, label, group) for number, label, group in rows}.values())
    splits = split_by_key(
        keys_of([number for number, _, _ in rows]),
        [label for _, label, _ in rows],
        fractions=fractions,
        salt=str(seed),
    )
    sides_of: dict[int, set[str]] = defaultdict(set)
    size_of: dict[int, int] = defaultdict(int)
    for (_, label, _), side in zip(rows, splits, strict=True):
        sides_of[label].add(side)
        size_of[label] += 1
    for label, sides in sides_of.items():
        assert len(sides) >= min(size_of[label], len(fractions))


@quick
@given(rows=samples)
def test_groups_and_keys_are_never_divided(rows: Samples) -> None:
    # Each image is in one group only; an image in two groups is two units, which ``find_leaks`` reports.
    rows = list({number: (number, label, group) for number, label, group in rows}.values()) * 2
    keys, groups = keys_of([number for number, _, _ in rows]), [str(group) for _, _, group in rows]
    splits = split_by_key(keys, [label for _, label, _ in rows], groups=groups)
    assert not find_leaks(keys, splits)


@quick
@given(rows=samples)
def test_the_order_of_the_rows_does_not_matter(rows: Samples) -> None:
    keys, labels = keys_of([number for number, _, _ in rows]), [label for _, label, _ in rows]
    forward = split_by_key(keys, labels, fractions=THREE)
    backward = split_by_key(keys[::-1].copy(), labels[::-1], fractions=THREE)
    assert forward.tolist() == backward[::-1].tolist()


def test_the_fractions_are_met() -> None:
    splits = split_by_key(many(20_000), fractions=THREE)
    for name, fraction in THREE.items():
        assert np.mean(splits == name) == pytest.approx(fraction, abs=0.015)


def test_the_split_of_a_key_is_the_same_in_every_version() -> None:
    assert "".join(side[1] for side in split_by_key(many(40))) == "reeeeerrrerrerrerrrrrrerrrreeerrrerrerrr"


def test_another_salt_gives_another_split() -> None:
    keys = many(1000)
    assert (split_by_key(keys) != split_by_key(keys, salt="other")).mean() == pytest.approx(0.32, abs=0.06)


def test_balancing_moves_the_sample_whose_hash_is_nearest_to_the_other_split() -> None:
    keys = many(2000)
    plain = split_by_key(keys)
    inside = np.flatnonzero(plain == "train")[:9]
    splits = split_by_key(keys[inside], ["ant"] * 9)
    assert sorted(splits).count("test") == 1
    # With a smaller training share, this sample is the first to move by its hash alone.
    (moved,) = np.flatnonzero(splits == "test")
    for fraction in np.linspace(0.79, 0.01, 79):
        shrunk = split_by_key(keys[inside], fractions={"train": fraction, "test": 1 - fraction})
        if (shrunk == "test").any():
            assert shrunk[moved] == "test"
            break


def test_balancing_fills_the_larger_splits_first_for_a_small_class() -> None:
    for start in range(0, 60, 2):
        two = split_by_key(many(2, start), ["ant"] * 2, fractions={"train": 0.7, "val": 0.1, "test": 0.2})
        assert {"train", "test"} == set(two)


def test_a_class_moves_no_sample_that_another_class_needs() -> None:
    # The only test sample of "bee" is in a group with "ant"; moving it for "ant" would leave "bee" without one.
    keys = many(400)
    for start in range(0, 400, 8):
        labels = ["ant", "bee", "ant", "bee", "ant", "bee", "ant", "bee"]
        groups = ["a", "a", "b", "b", "c", "c", "d", "d"]
        splits = split_by_key(keys[start : start + 8], labels, groups=[f"{start}{group}" for group in groups])
        for label in ("ant", "bee"):
            assert {side for side, own in zip(splits, labels, strict=True) if own == label} == {"train", "test"}


def test_a_row_without_a_label_gets_a_split_and_counts_for_no_class() -> None:
    assert set(split_by_key(many(200), [None] * 200)) == {"train", "test"}


def test_a_previous_split_with_another_name_stays() -> None:
    keys = many(10)
    previous = {keys[3].tobytes(): "holdout"}
    splits = split_by_key(keys, ["ant"] * 10, previous=previous)
    assert splits[3] == "holdout"
    assert set(np.delete(splits, 3)) == {"train", "test"}


def test_a_growing_group_stays_in_its_split() -> None:
    keys, groups = many(60), [str(number // 3) for number in range(60)]
    first = split_by_key(keys[:30], groups=groups[:30])
    previous = {key.tobytes(): "test" for key in keys[:30]}
    second = split_by_key(keys, groups=["7"] * 60, previous=previous)
    assert set(first) == {"train", "test"}
    assert set(second) == {"test"}


def test_a_group_in_two_previous_splits_raises() -> None:
    keys = many(2)
    previous = {keys[0].tobytes(): "train", keys[1].tobytes(): "test"}
    with pytest.raises(InputError, match=r"'patient 7' is already in the splits train and test.*split again"):
        split_by_key(keys, groups=["patient 7"] * 2, previous=previous)


@pytest.mark.parametrize(
    "fractions",
    [{"train": 1.0}, {"train": 0.8, "test": 0.3}, {"train": 1.2, "test": -0.2}, {"a": 0.5, "b": float("nan")}],
)
def test_invalid_fractions_raise(fractions: dict[str, float]) -> None:
    with pytest.raises(InputError):
        split_by_key(many(3), fractions=fractions)


def test_labels_or_groups_of_another_length_raise() -> None:
    with pytest.raises(InputError, match="2 groups"):
        split_by_key(many(3), groups=["a", "b"])
    with pytest.raises(InputError, match="2 labels"):
        split_by_key(many(3), ["a", "b"])


@pytest.mark.parametrize(
    ("times", "cut", "early"),
    [
        ([2019, 2020, 2021], 2020, [True, False, False]),
        ([0.5, 1.5], 1, [True, False]),
        (["2024-01-31", "2024-02-01", "2024-02-01T00:00:01"], "2024-02-01", [True, False, False]),
        (["2024-01-01T00:30+01:00", "2024-01-01T00:30+00:00"], "2024-01-01T00:00+00:00", [True, False]),
    ],
)
def test_split_by_time_compares_with_the_cut(times: list[Any], cut: Any, early: list[bool]) -> None:
    assert (split_by_time(times, cut) == "train").tolist() == early


@pytest.mark.parametrize(
    ("times", "cut", "words"),
    [
        (["2024-01-31", None], "2024-01-01", "1 rows have no time"),
        (["31.1.2024"], "2024-01-01", "'31.1.2024' is not a time"),
        (["2024-01-31"], 2024, "2024 is not a time"),
        (["2024-01-31T00:00+01:00"], "2024-01-01", "have a time zone"),
    ],
)
def test_times_that_cannot_be_compared_raise(times: list[Any], cut: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        split_by_time(times, cut)


@quick
@given(rows=st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["train", "test", None])), max_size=50))
def test_leaks_are_exactly_the_images_in_two_splits(rows: list[tuple[int, str | None]]) -> None:
    keys, splits = keys_of([number for number, _ in rows]), [side for _, side in rows]
    found = {leak.of: (leak.values, leak.rows) for leak in find_leaks(keys, splits)}
    sides_of: dict[bytes, list[tuple[int, str]]] = defaultdict(list)
    for row, (key, side) in enumerate(zip(keys, splits, strict=True)):
        if side is not None:
            sides_of[key.tobytes()].append((row, side))
    expected = {
        key: (tuple(sorted({side for _, side in own})), tuple(row for row, _ in own))
        for key, own in sides_of.items()
        if len({side for _, side in own}) > 1
    }
    assert found == expected


def test_an_image_with_two_labels_is_found() -> None:
    keys = keys_of([1, 2, 1, 3, 2])
    (found,) = find_contradictions(keys, ["ant", "bee", "moth", "ant", "bee"])
    assert (found.of, found.values, found.rows) == (keys[0].tobytes(), ("ant", "moth"), (0, 2))
    assert not find_contradictions(keys, [0.5, 1.0, 0.5, 2.0, None])


def test_real_photos_with_two_labels_are_found(shared_data: Path) -> None:
    paths = sorted(path for path in (shared_data / "images/flowers5").rglob("*") if path.is_file())
    keys, labels = key_array(key_of(path.read_bytes()) for path in paths), [path.parent.name for path in paths]
    found = find_contradictions(keys, labels)
    assert [conflict.values for conflict in found] == [("rose", "tulip")] * 4
    splits = split_by_key(keys, labels)
    assert not find_leaks(keys, splits)
    for label in set(labels):
        share = np.mean([side == "test" for side, own in zip(splits, labels, strict=True) if own == label])
        assert share == pytest.approx(0.2, abs=0.05)
    by_folder = ["train" if label in {"rose", "daisy"} else "test" for label in labels]
    assert [leak.of for leak in find_leaks(keys, by_folder)] == [conflict.of for conflict in found]
