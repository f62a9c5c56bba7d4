"""Out-of-fold probabilities: each training row is predicted by a head that was not fitted on it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.heads.numerics.folds import MANY_ROWS, assign_folds
from penult.pipeline.heads.scoring import predict_in_blocks

if TYPE_CHECKING:
    from penult.pipeline.heads.numerics.basis import Basis

__all__ = ["HeadPlan", "OutOfFold", "outer_folds", "predict_out_of_fold", "training_parts"]

LEAST_A_CLASS = 2
"""The fewest rows of a class to fit on, so that one can be held out when parameters are chosen."""


@dataclass(frozen=True)
class HeadPlan:
    """A head to cross-validate: its name, parameters, class weight, number of folds and seed.

    ``share`` is the share of the rows outside of a fold that the head is fitted on.
    """

    head: str = "logistic"
    params: Mapping[str, Any] = field(default_factory=dict)
    class_weight: str | None = None
    n_folds: int = 5
    seed: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.n_folds < 2:
            raise InputError(f"n_folds is {self.n_folds}", expected="2 or more")
        if not 0 < self.share <= 1:
            raise InputError(f"the share of the rows is {self.share}", expected="a number above 0 and at most 1")


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold probabilities (n, C), and the mean seconds per fold.

    The only row of a class cannot be held out; its probabilities are NaN.
    """

    probabilities: NDArray[np.float32]
    seconds: float

    @property
    def was_held_out(self) -> NDArray[np.bool_]:
        """A mask of the rows that were held out."""
        return ~np.isnan(self.probabilities[:, 0])


def outer_folds(codes: NDArray[np.intp], groups: NDArray[Any] | None, *, n_folds: int, seed: int) -> NDArray[np.intp]:
    """Returns the fold of each row, stratified by class and with whole groups; -1 for the only row of a class."""
    if groups is not None or len(codes) <= MANY_ROWS:
        return assign_folds(codes, groups, n_folds=n_folds, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    folds = np.empty(len(codes), dtype=np.intp)
    folds[shuffled[np.argsort(codes[shuffled], kind="stable")]] = np.arange(len(codes)) % n_folds
    folds[np.bincount(codes)[codes] == 1] = -1
    return folds


def predict_out_of_fold(
    X: NDArray[np.floating],
    codes: NDArray[np.intp],
    groups: NDArray[Any] | None,
    plan: HeadPlan,
    *,
    basis: "Basis | None" = None,
    advance: Callable[[], None] = lambda: None,
) -> OutOfFold:
    """Fits the head once per fold on the other folds, and predicts that fold.

    Parameters are chosen again for each fold, from the rows that the head is fitted on. ``basis`` is a basis of full
    rank of all rows, for heads that use it only to speed up a descent: finding it for each fold would cost more than
    the fits. ``advance`` is called after each fold.
    """
    from penult.pipeline.heads.recipe import HeadOptions
    from penult.pipeline.heads.registry import recipe_of

    folds = outer_folds(codes, groups, n_folds=plan.n_folds, seed=plan.seed)
    probabilities = np.full((len(codes), int(codes.max()) + 1), np.nan, np.float32)
    numbers = sorted(set(folds[folds >= 0].tolist()))
    began = time.perf_counter()
    for fold in numbers:
        inside, outside = _training_rows(folds != fold, codes, groups, plan), folds == fold
        known, inner = np.unique(codes[inside], return_inverse=True)
        if len(known) < 2:
            raise InputError(
                f"all training images outside of fold {fold + 1} have one class",
                expected="at least two classes outside of each fold",
                remedy="label more images, or use fewer folds or smaller groups",
            )
        options = HeadOptions(len(inside), len(known), X.shape[1], plan.seed, plan.class_weight)
        within = None if groups is None else groups[inside]
        recipe = recipe_of(plan.head, options, plan.params)
        part = X[inside]
        axes = None if basis is None else _standardised_on(basis, part)
        fitted = recipe.fit(part, inner, groups=within, seed=plan.seed, basis=axes)
        rows = np.zeros((int(outside.sum()), probabilities.shape[1]), np.float32)
        rows[:, known] = predict_in_blocks(fitted.estimator.predict_proba, X[outside])
        probabilities[outside] = rows
        advance()
    return OutOfFold(probabilities, (time.perf_counter() - began) / max(1, len(numbers)))


def training_parts(codes: NDArray[np.intp], groups: NDArray[Any] | None, plan: HeadPlan) -> list[NDArray[np.intp]]:
    """Returns for each fold the indices of the rows that `predict_out_of_fold` fits on."""
    folds = outer_folds(codes, groups, n_folds=plan.n_folds, seed=plan.seed)
    return [_training_rows(folds != fold, codes, groups, plan) for fold in sorted(set(folds[folds >= 0].tolist()))]


def _training_rows(
    inside: NDArray[np.bool_], codes: NDArray[np.intp], groups: NDArray[Any] | None, plan: HeadPlan
) -> NDArray[np.intp]:
    """Returns the indices of the rows to fit on: of each class the first rows in a random order of the groups."""
    indices = np.flatnonzero(inside)
    if plan.share == 1:
        return indices
    unit = np.arange(len(codes)) if groups is None else np.unique(groups.astype(str), return_inverse=True)[1]
    order = np.random.default_rng([plan.seed, 1]).permutation(int(unit.max()) + 1)[unit]
    ordered = indices[np.lexsort((indices, order[indices], codes[indices]))]
    sizes = np.bincount(codes[ordered])
    rank = np.arange(len(ordered)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    most = np.maximum(LEAST_A_CLASS, np.round(plan.share * sizes))
    return np.sort(ordered[rank < most[codes[ordered]]])


def _standardised_on(basis: "Basis", rows: NDArray[np.floating]) -> "Basis":
    """Returns the basis with its axes unchanged, and the mean and scale of ``rows``."""
    from penult.pipeline.heads.numerics.basis import mean_and_scale

    mean, scale = mean_and_scale(rows)
    return replace(basis, n=len(rows), mean=mean, scale=scale, is_exact=False)
