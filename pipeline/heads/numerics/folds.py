"""Folds and samples of training rows, for choosing parameters without the test split."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedGroupKFold

from penult.errors import InputError

__all__ = ["MANY_ROWS", "assign_folds", "number_folds", "sample"]

MANY_ROWS = 8_192
"""From this number of rows on, one held-out fold is enough to measure a loss."""


def assign_folds(codes: NDArray[np.intp], groups: ArrayLike | None, *, n_folds: int, seed: int) -> NDArray[np.intp]:
    """Returns the fold of each row, stratified by class; with ``groups``, a group is in one fold only.

    The only row of a class is never held out (fold -1). With more than ``MANY_ROWS`` ungrouped rows, only the first
    fold is used, and all other rows are -1.
    """
    if groups is not None:
        return _grouped(codes, np.asarray(groups), n_folds, seed)
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    folds = np.empty(len(codes), dtype=np.intp)
    folds[by_class] = np.arange(len(codes)) % n_folds
    folds[np.bincount(codes)[codes] == 1] = -1
    if len(codes) > MANY_ROWS:
        folds[folds > 0] = -1
    return folds


def _grouped(codes: NDArray[np.intp], groups: NDArray[Any], n_folds: int, seed: int) -> NDArray[np.intp]:
    if len(groups) != len(codes):
        raise InputError(f"there are {len(groups)} groups for {len(codes)} rows", expected="one group per row")
    distinct = len(np.unique(groups))
    if distinct < 2:
        raise InputError(
            "all training rows are in one group, so no row can be held out to choose parameters",
            expected="at least two groups",
            remedy="train without groups, or label images of another group",
        )
    rarest = int(np.bincount(codes).min())
    splitter = StratifiedGroupKFold(max(2, min(n_folds, distinct, rarest)), shuffle=True, random_state=seed)
    folds = np.empty(len(codes), dtype=np.intp)
    for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(codes)), codes, groups)):
        folds[held_out] = fold
    return folds


def number_folds(rows: int, groups: ArrayLike | None, *, n_folds: int, seed: int) -> NDArray[np.intp]:
    """Returns the fold of each row, without classes; with ``groups``, a group is in one fold only."""
    if groups is None:
        units, count = np.arange(rows), rows
    else:
        names, units = np.unique(np.asarray(groups), return_inverse=True)
        count = len(names)
    folds: NDArray[np.intp] = (np.random.default_rng(seed).permutation(count) % n_folds)[units]
    return folds


def sample(codes: NDArray[np.intp], most: int, *, seed: int) -> NDArray[np.intp]:
    """Returns about ``most`` row indices in order: the same share of each class, and at least two rows of each."""
    if len(codes) <= most:
        return np.arange(len(codes))
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    counts = np.bincount(codes)
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_class[rank < np.repeat(np.maximum(2, counts * most // len(codes)), counts)])
