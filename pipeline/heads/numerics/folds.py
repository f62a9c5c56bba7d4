"""Which rows are held out together when something has to be chosen without touching the test split."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedGroupKFold

from penult.errors import InputError

__all__ = ["MANY_ROWS", "assign_folds", "number_folds", "sample"]

MANY_ROWS = 8_192
"""From here on one held-out fold measures a loss as closely as five do with a fifth of the rows."""


def assign_folds(codes: NDArray[np.intp], groups: ArrayLike | None, *, n_folds: int, seed: int) -> NDArray[np.intp]:
    """Returns the fold of each row, stratified by class; with ``groups``, no group stands in two folds.

    Every fold leaves each class at least one training row: a class of one row is never held out (fold -1). Beyond
    ``MANY_ROWS`` ungrouped rows only the first fold is used and the others' rows are -1.
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
            "all training rows are in one group, so none can be held out to choose by",
            expected="two groups at least",
            remedy="leave the groups out, or label images of another group",
        )
    rarest = int(np.bincount(codes).min())
    splitter = StratifiedGroupKFold(max(2, min(n_folds, distinct, rarest)), shuffle=True, random_state=seed)
    folds = np.empty(len(codes), dtype=np.intp)
    for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(codes)), codes, groups)):
        folds[held_out] = fold
    return folds


def number_folds(rows: int, groups: ArrayLike | None, *, n_folds: int, seed: int) -> NDArray[np.intp]:
    """Returns the fold of each row where there are no classes; with ``groups``, no group stands in two folds."""
    if groups is None:
        units, count = np.arange(rows), rows
    else:
        names, units = np.unique(np.asarray(groups), return_inverse=True)
        count = len(names)
    folds: NDArray[np.intp] = (np.random.default_rng(seed).permutation(count) % n_folds)[units]
    return folds


def sample(codes: NDArray[np.intp], most: int, *, seed: int) -> NDArray[np.intp]:
    """Returns at most about ``most`` rows, the same share of each class and at least two of each, in order."""
    if len(codes) <= most:
        return np.arange(len(codes))
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    counts = np.bincount(codes)
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_class[rank < np.repeat(np.maximum(2, counts * most // len(codes)), counts)])
