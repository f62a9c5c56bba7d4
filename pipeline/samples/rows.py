"""Which samples of a dataset train a head and which test it, with every sample that does neither accounted for."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.catalog.datasets import Dataset
from penult.store.tables.columns import missing_in

__all__ = ["Samples", "TrainingRows", "choose_rows"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Samples:
    """Distinct images in the order of their keys, with label, path, and group (None where the dataset has none)."""

    keys: NDArray[np.uint8]
    labels: NDArray[Any]
    paths: tuple[str, ...]
    groups: NDArray[Any] | None

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class TrainingRows:
    """The samples to train and to evaluate on, the splits that they came from, and what was left out and why."""

    train: Samples
    test: Samples
    trained_on: tuple[str, ...]
    evaluated_on: str
    notes: tuple[str, ...]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The labels of the training samples, sorted."""
        return tuple(sorted(set(self.train.labels.tolist())))


def choose_rows(dataset: Dataset) -> TrainingRows:
    """Splits a dataset: tested on ``test`` if there is one and else on ``val``, trained on all other splits.

    No image is on both sides: one that stands in both is only tested. Images without a label, or with two, are in
    neither.
    """
    notes: list[str] = []
    labels, splits = _columns(dataset)
    present = Counter(splits.tolist())
    evaluated_on = "test" if present["test"] else "val"
    if not present[evaluated_on]:
        raise InputError(
            f"the dataset {dataset.name!r} has no images to test on; its splits are {_counted(present)}",
            expected="images in the split test, or val",
            remedy=f"penult dataset split {dataset.name}",
        )
    trained_on = tuple(split for split in ("train", "val") if present[split] and split != evaluated_on)
    others = Counter({name: count for name, count in present.items() if name not in SPLITS})
    if others:
        notes.append(f"{others.total()} images are in no split that is used ({_counted(others)})")
    image = _numbered(dataset.keys)
    kept = _usable(image, labels, notes)
    test = kept & (splits == evaluated_on)
    train = kept & np.isin(splits, trained_on)
    train &= _apart(image, train, test, notes)
    rows = TrainingRows(
        _samples(dataset, labels, image, train),
        _samples(dataset, labels, image, test),
        trained_on,
        evaluated_on,
        tuple(notes),
    )
    _check(dataset, rows)
    return rows


def _columns(dataset: Dataset) -> tuple[NDArray[Any], NDArray[Any]]:
    if dataset.labels is None:
        raise InputError(
            f"the dataset {dataset.name!r} has no labels", expected="a column label", remedy="penult dataset import"
        )
    if dataset.splits is None:
        raise InputError(
            f"the dataset {dataset.name!r} has no splits",
            expected="a column split with train and test",
            remedy=f"penult dataset split {dataset.name}",
        )
    labels = np.where(missing_in(dataset.labels), "", dataset.labels).astype(str)
    splits = np.where(missing_in(dataset.splits), "none", dataset.splits).astype(str)
    return labels, splits


def _usable(image: NDArray[np.intp], labels: NDArray[Any], notes: list[str]) -> NDArray[np.bool_]:
    """Returns which rows have one label."""
    is_labelled = labels != ""
    if not is_labelled.all():
        notes.append(f"{int((~is_labelled).sum())} images have no label and are left out")
    codes = np.unique(labels, return_inverse=True)[1]
    several = int(codes.max(initial=0)) + 1
    # One number for each pair of image and label sorts many times as fast as the pairs.
    told = np.unique((image * several + codes)[is_labelled])
    is_torn = np.bincount(told // several, minlength=len(image)) > 1
    if is_torn.any():
        notes.append(f"{int(is_torn.sum())} images stand under several labels and are left out")
    usable: NDArray[np.bool_] = is_labelled & ~is_torn[image]
    return usable


def _apart(
    image: NDArray[np.intp], train: NDArray[np.bool_], test: NDArray[np.bool_], notes: list[str]
) -> NDArray[np.bool_]:
    """Returns which rows are of images that are not tested."""
    is_tested = np.zeros(len(image), np.bool_)
    is_tested[image[test]] = True
    is_shared = is_tested[image]
    leaked = len(np.unique(image[train & is_shared]))
    if leaked:
        notes.append(f"{leaked} images stand in training and test alike; they are only tested")
    return ~is_shared


def _numbered(keys: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Returns a number for each row, the same for the same key, in the order of the keys."""
    numbers: NDArray[np.intp] = np.unique(_words(keys), return_inverse=True)[1]
    return numbers


def _samples(dataset: Dataset, labels: NDArray[Any], image: NDArray[np.intp], rows: NDArray[np.bool_]) -> Samples:
    """Takes the rows in the order of their keys, each key once, so that a head depends on content alone."""
    places = np.flatnonzero(rows)
    places = places[np.unique(image[places], return_index=True)[1]]
    groups = None if dataset.groups is None else _groups(dataset.groups[places], places)
    return Samples(dataset.keys[places], labels[places], tuple(map(dataset.paths.__getitem__, places.tolist())), groups)


def _groups(groups: NDArray[Any], places: NDArray[np.intp]) -> NDArray[Any]:
    """Returns the groups as text; an image without one is a group of its own."""
    absent = missing_in(groups)
    return np.array(
        [f"\0{place}" if gone else str(group) for group, gone, place in zip(groups, absent, places, strict=True)],
        object,
    )


def _check(dataset: Dataset, rows: TrainingRows) -> None:
    counts = Counter(rows.train.labels.tolist())
    if not counts:
        present = Counter(_columns(dataset)[1].tolist())
        raise InputError(
            f"the dataset {dataset.name!r} has no labelled images to train on; its splits are {_counted(present)}",
            expected="labelled images in the split train",
            remedy=f"label some, or penult dataset split {dataset.name}",
        )
    if len(counts) < 2:
        raise InputError(
            f"the training images of {dataset.name!r} have {_counted(counts)}",
            expected="two classes at least",
            remedy="label images of another class, and put them into the split train",
        )
    single = sorted(name for name, count in counts.items() if count == 1)
    if single:
        raise InputError(
            f"In {dataset.name!r}, these classes have only one training image: {', '.join(single[:5])}",
            expected="two images per class at least",
            remedy="add images, or leave these classes out",
        )
    if not len(rows.test):
        raise InputError(
            f"no image of the split {rows.evaluated_on} of {dataset.name!r} can be tested on",
            expected="labelled images",
            remedy=f"penult dataset split {dataset.name}",
        )


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


def _words(keys: NDArray[np.uint8]) -> NDArray[np.void]:
    return np.ascontiguousarray(keys).view("V16").ravel()
