"""Which images of a dataset train a head and which test it. A note counts every image that is left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.heads.names import Task
from penult.pipeline.samples.merging import present
from penult.pipeline.samples.targets import LABEL, Target, labelled, target_of
from penult.pipeline.words import counted
from penult.store.catalog.datasets import Dataset
from penult.store.keys import key_scalars
from penult.store.tables.columns import missing_in

__all__ = ["Samples", "TrainingRows", "choose_rows", "pick_evenly"]

SPLITS = ("train", "val", "test")

# The square of a larger number does not fit into float32.
LARGEST_NUMBER = 1e18


@dataclass(frozen=True)
class Samples:
    """Distinct images sorted by key. ``groups`` is None where the dataset has none.

    ``labels`` are class names (n), or float64 values (n, T): one number, or one column of 0 and 1 per tag.
    """

    keys: NDArray[np.uint8]
    labels: NDArray[Any]
    paths: tuple[str, ...]
    groups: NDArray[Any] | None

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class TrainingRows:
    """The training and test images, the splits they come from, and notes about images that are left out."""

    train: Samples
    test: Samples
    target: Target
    trained_on: tuple[str, ...]
    evaluated_on: str
    notes: tuple[str, ...]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The sorted class names, or the tags. A number has none."""
        if self.target.task == "classification":
            return tuple(sorted(set(self.train.labels.tolist())))
        return self.target.names if self.target.task == "multilabel" else ()

    @cached_property
    def y(self) -> NDArray[Any]:
        """The training labels as estimators take them: class codes (n), tag bits (n, T), or numbers (n)."""
        if self.target.task == "classification":
            return np.searchsorted(np.array(self.classes), self.train.labels.astype(str))
        return self.train.labels[:, 0] if self.target.task == "regression" else self.train.labels.astype(np.int64)


def choose_rows(dataset: Dataset, target: str = LABEL, task: Task | None = None) -> TrainingRows:
    """Splits a dataset into training and test images with the labels that ``target`` and ``task`` name.

    The split ``test`` is tested, or ``val`` without one; ``train`` and ``val`` otherwise train. An image in both is
    only tested. Images without a label, or with several, are in neither.
    """
    dataset = present(dataset)
    if target == LABEL and dataset.labels is None:
        raise InputError(
            f"the dataset {dataset.name!r} has no labels", expected="a column label", remedy="penult dataset import"
        )
    wanted = target_of(dataset, target, task)
    notes: list[str] = []
    labels, codes, is_known = _labels(dataset, wanted)
    splits = _splits(dataset)
    counts = Counter(splits.tolist())
    evaluated_on = "test" if counts["test"] else "val"
    if not counts[evaluated_on]:
        raise InputError(
            f"the dataset {dataset.name!r} has no test images; its splits are {_counts(counts)}",
            expected="images in the split test, or val",
            remedy=f"penult dataset split {dataset.name}",
        )
    trained_on = tuple(split for split in ("train", "val") if counts[split] and split != evaluated_on)
    others = Counter({name: count for name, count in counts.items() if name not in SPLITS})
    if others:
        notes.append(f"{counted(others.total(), 'image')} in splits that are not used ({_counts(others)})")
    image = np.unique(key_scalars(dataset.keys), return_inverse=True)[1]
    kept = _usable(image, codes, is_known, wanted, notes)
    test = kept & (splits == evaluated_on)
    train = kept & np.isin(splits, trained_on)
    train &= _untested(image, train, test, notes)
    rows = TrainingRows(
        _samples(dataset, labels, image, train),
        _samples(dataset, labels, image, test),
        wanted,
        trained_on,
        evaluated_on,
        tuple(notes),
    )
    if wanted.task == "classification":
        _check_classes(dataset, rows, counts)
    else:
        _check_values(dataset, rows)
    return rows


def _labels(dataset: Dataset, target: Target) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.bool_]]:
    """Returns the label of each row, a code that is equal where labels are equal, and whether there is a label."""
    if target.values is not None:
        is_known = np.asarray(~np.isnan(target.values).any(axis=1), np.bool_)
        codes = np.zeros(len(is_known), np.intp)
        codes[is_known] = np.unique(target.values[is_known], axis=0, return_inverse=True)[1].ravel()
        return target.values, codes, is_known
    column = labelled(dataset, target.columns[0], target.task).labels
    assert column is not None
    labels = np.where(missing_in(column), "", column).astype(str)
    return labels, np.unique(labels, return_inverse=True)[1], labels != ""


def _splits(dataset: Dataset) -> NDArray[Any]:
    if dataset.splits is None:
        raise InputError(
            f"the dataset {dataset.name!r} has no splits",
            expected="a column split with train and test",
            remedy=f"penult dataset split {dataset.name}",
        )
    return np.where(missing_in(dataset.splits), "none", dataset.splits).astype(str)


def _usable(
    image: NDArray[np.intp], codes: NDArray[np.intp], is_known: NDArray[np.bool_], target: Target, notes: list[str]
) -> NDArray[np.bool_]:
    """Returns which rows belong to images that have exactly one label."""
    is_class = target.task == "classification"
    if not is_known.all():
        lacking = "no label" if is_class else f"no value for {', '.join(target.columns[:3])}"
        notes.append(f"left out because of {lacking}: {counted(int((~is_known).sum()), 'image')}")
    several = int(codes.max(initial=0)) + 1
    # One number per (image, label) pair sorts many times faster than the pairs.
    pairs = np.unique((image * several + codes)[is_known])
    is_ambiguous = np.bincount(pairs // several, minlength=len(image)) > 1
    if is_ambiguous.any():
        what = "labels" if is_class else "values"
        notes.append(f"left out because of several {what}: {counted(int(is_ambiguous.sum()), 'image')}")
    usable: NDArray[np.bool_] = is_known & ~is_ambiguous[image]
    return usable


def _untested(
    image: NDArray[np.intp], train: NDArray[np.bool_], test: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.bool_]:
    """Returns which rows belong to images that are not tested."""
    is_tested = np.zeros(len(image), np.bool_)
    is_tested[image[test]] = True
    is_shared = is_tested[image]
    leaked = len(np.unique(image[train & is_shared]))
    if leaked:
        notes.append(f"only tested, though also in a training split: {counted(leaked, 'image')}")
    return ~is_shared


def _samples(dataset: Dataset, labels: NDArray[Any], image: NDArray[np.intp], rows: NDArray[np.bool_]) -> Samples:
    """Takes each image once, sorted by key, so that a head depends on content alone."""
    places = np.flatnonzero(rows)
    places = places[np.unique(image[places], return_index=True)[1]]
    groups = None if dataset.groups is None else _groups(dataset.groups[places], places)
    return Samples(dataset.keys[places], labels[places], tuple(map(dataset.paths.__getitem__, places.tolist())), groups)


def _groups(groups: NDArray[Any], places: NDArray[np.intp]) -> NDArray[Any]:
    """Returns the groups as text; an image without a group is a group of its own."""
    is_missing = missing_in(groups)
    return np.array(
        [f"\0{place}" if lacks else str(group) for group, lacks, place in zip(groups, is_missing, places, strict=True)],
        object,
    )


def _check_classes(dataset: Dataset, rows: TrainingRows, splits: Counter[str]) -> None:
    counts = Counter(rows.train.labels.tolist())
    if not counts:
        raise InputError(
            f"the dataset {dataset.name!r} has no labelled training images; its splits are {_counts(splits)}",
            expected="labelled images in the split train",
            remedy=f"label some, or penult dataset split {dataset.name}",
        )
    if len(counts) < 2:
        raise InputError(
            f"the training images of {dataset.name!r} have only one class ({_counts(counts)})",
            expected="at least two classes",
            remedy="label images of another class, and put them into the split train",
        )
    single = sorted(name for name, count in counts.items() if count == 1)
    if single:
        raise InputError(
            f"In {dataset.name!r}, these classes have only one training image: {', '.join(single[:5])}",
            expected="at least two images per class",
            remedy="add images, or leave these classes out",
        )
    if not len(rows.test):
        raise InputError(
            f"the split {rows.evaluated_on} of {dataset.name!r} has no image that can be tested",
            expected="labelled images",
            remedy=f"penult dataset split {dataset.name}",
        )


def _check_values(dataset: Dataset, rows: TrainingRows) -> None:
    target = rows.target
    for purpose, part, least in (("training", rows.train, 2), ("test", rows.test, 1)):
        if len(part) < least:
            raise InputError(
                f"the dataset {dataset.name!r} has {len(part)} {purpose} images with {', '.join(target.columns)}",
                expected=f"at least {least}",
                remedy=f"penult dataset split {dataset.name}, or fill in the column",
            )
        if not np.abs(part.labels).max() < LARGEST_NUMBER:
            raise InputError(
                f"{target.names[0]!r} has the value {part.labels.flat[np.abs(part.labels).argmax()]:g}",
                expected=f"finite numbers below {LARGEST_NUMBER:g}",
                remedy="correct it, or leave that cell empty",
            )
    for purpose, part in (("training", rows.train), ("test", rows.test)):
        if target.task == "regression" and np.ptp(part.labels) == 0:
            raise InputError(
                f"{target.names[0]!r} is {part.labels[0, 0]:g} on all {purpose} images",
                expected="values that differ, so that there is something to predict",
                remedy=f"fill in the column, or penult dataset split {dataset.name}",
            )
    if target.task == "multilabel":
        shares = rows.train.labels.mean(axis=0)
        constant = [name for name, share in zip(target.names, shares, strict=True) if share in (0, 1)]
        if constant:
            raise InputError(
                f"these tags are on all training images or on none: {', '.join(constant[:5])}",
                expected="images with the tag and images without it",
                remedy="name the other columns only, or label more images",
            )


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


def pick_evenly(values: Sequence[Any], count: int) -> list[Any]:
    """Returns up to ``count`` of the values, evenly spaced.

    >>> pick_evenly("abcdefghi", 3)
    ['a', 'e', 'i']
    """
    places = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return [values[place] for place in places]
