"""Which samples train and which test a head for numbers or tags, with every sample that does neither accounted for."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.samples.targets import Target
from penult.store.catalog.datasets import Dataset
from penult.store.tables.columns import missing_in

__all__ = ["ValueRows", "ValueSamples", "choose_value_rows"]

MOST = 1e18
"""The squares of greater numbers are beyond the range of float32."""


@dataclass(frozen=True)
class ValueSamples:
    """Distinct images in the order of their keys, with their values (n, T), paths, and groups or None."""

    keys: NDArray[np.uint8]
    values: NDArray[np.float64]
    paths: tuple[str, ...]
    groups: NDArray[Any] | None

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class ValueRows:
    """The samples to train and to evaluate on, the splits that they came from, and what was left out and why."""

    train: ValueSamples
    test: ValueSamples
    trained_on: tuple[str, ...]
    evaluated_on: str
    notes: tuple[str, ...]


def choose_value_rows(dataset: Dataset, target: Target) -> ValueRows:
    """Splits a dataset as for classes: tested on ``test`` if there is one and else on ``val``, trained on the rest.

    An image without a value, or with two that differ, is in neither part; one in both parts is only tested.
    """
    assert target.values is not None
    splits = _splits(dataset)
    present = Counter(splits.tolist())
    evaluated_on = "test" if present["test"] else "val"
    trained_on = tuple(split for split in ("train", "val") if present[split] and split != evaluated_on)
    notes: list[str] = []
    known = np.asarray(~np.isnan(target.values).any(axis=1), np.bool_)
    if not known.all():
        notes.append(f"{int((~known).sum())} images have no value for {', '.join(target.columns[:3])} and are left out")
    image = np.unique(np.ascontiguousarray(dataset.keys).view("V16").ravel(), return_inverse=True)[1]
    torn = _torn(image, target.values, known)
    if torn.any():
        notes.append(f"{int(torn.sum())} images stand under several values and are left out")
    kept = known & ~torn
    test = kept & (splits == evaluated_on)
    train = kept & np.isin(splits, trained_on)
    shared = np.isin(image, image[test])
    leaked = len(np.unique(image[train & shared]))
    if leaked:
        notes.append(f"{leaked} images stand in training and test alike; they are only tested")
    rows = ValueRows(
        _samples(dataset, target.values, image, train & ~shared),
        _samples(dataset, target.values, image, test),
        trained_on,
        evaluated_on,
        tuple(notes),
    )
    _check(dataset, target, rows)
    return rows


def _splits(dataset: Dataset) -> NDArray[Any]:
    if dataset.splits is None:
        raise InputError(
            f"the dataset {dataset.name!r} has no splits",
            expected="a column split with train and test",
            remedy=f"penult dataset split {dataset.name}",
        )
    return np.where(missing_in(dataset.splits), "none", dataset.splits).astype(str)


def _torn(image: NDArray[np.intp], values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns which rows are of an image that other rows give other values."""
    first = np.full(image.max(initial=-1) + 1, -1)
    places = np.flatnonzero(known)[::-1]
    first[image[places]] = places
    differs = known & (values != values[first[image]]).any(axis=1)
    torn: NDArray[np.bool_] = np.isin(image, image[differs])
    return torn


def _samples(
    dataset: Dataset, values: NDArray[np.float64], image: NDArray[np.intp], rows: NDArray[np.bool_]
) -> ValueSamples:
    """Takes the rows in the order of their keys, each key once, so that a head depends on content alone."""
    places = np.flatnonzero(rows)
    places = places[np.unique(image[places], return_index=True)[1]]
    groups = None
    if dataset.groups is not None:
        absent = missing_in(dataset.groups)
        groups = np.array([f"\0{at}" if absent[at] else str(dataset.groups[at]) for at in places], object)
    return ValueSamples(dataset.keys[places], values[places], tuple(dataset.paths[at] for at in places), groups)


def _check(dataset: Dataset, target: Target, rows: ValueRows) -> None:
    for name, part, least in (("train", rows.train, 2), ("test", rows.test, 1)):
        if len(part) < least:
            raise InputError(
                f"the dataset {dataset.name!r} has {len(part)} images to {name} on with {', '.join(target.columns)}",
                expected=f"{least} at least",
                remedy=f"penult dataset split {dataset.name}, or fill in the column",
            )
    for part in (rows.train, rows.test):
        if len(part) and not np.abs(part.values).max() < MOST:
            raise InputError(
                f"{target.names[0]!r} has the value {part.values.flat[np.abs(part.values).argmax()]:g}",
                expected=f"finite numbers below {MOST:g}",
                remedy="correct it, or leave that cell empty",
            )
    for name, part in (("training", rows.train), ("test", rows.test)):
        if target.task == "regression" and np.ptp(part.values) == 0:
            raise InputError(
                f"{target.names[0]!r} is {part.values[0, 0]:g} on all {name} images",
                expected="values that differ, so that there is something to tell",
                remedy=f"fill in the column, or penult dataset split {dataset.name}",
            )
    if target.task == "multilabel":
        shares = rows.train.values.mean(axis=0)
        useless = [name for name, share in zip(target.names, shares, strict=True) if share in (0, 1)]
        if useless:
            raise InputError(
                f"these tags are on all training images or on none: {', '.join(useless[:5])}",
                expected="images with the tag and images without it",
                remedy="name the other columns only, or label more images",
            )
