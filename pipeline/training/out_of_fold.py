"""What a head says of training images that it was not fitted on: each is held out once; the test is untouched."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.heads.chances import said_of
from penult.pipeline.heads.folds import MANY_ROWS, assign_folds

__all__ = ["HeadPlan", "HeldOut", "even_folds", "hold_out"]


@dataclass(frozen=True)
class HeadPlan:
    """A head by name with its parameters, the weighting of classes, how many folds are held out, and the seed."""

    head: str = "logistic"
    params: Mapping[str, Any] = field(default_factory=dict)
    class_weight: str | None = None
    n_folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_folds < 2:
            raise InputError(f"there are {self.n_folds} folds", expected="2 or more")


@dataclass(frozen=True)
class HeldOut:
    """The probabilities (n, C) that heads gave to rows held out from them, and the seconds that one fit took.

    A row is NaN where it could not be held out: the only one of its class.
    """

    probabilities: NDArray[np.float32]
    seconds: float

    @property
    def told(self) -> NDArray[np.bool_]:
        """Which rows were held out."""
        return ~np.isnan(self.probabilities[:, 0])


def even_folds(codes: NDArray[np.intp], groups: NDArray[Any] | None, *, n_folds: int, seed: int) -> NDArray[np.intp]:
    """Returns the fold of every row, stratified by class, groups whole; -1 for the only row of a class."""
    if groups is not None or len(codes) <= MANY_ROWS:
        return assign_folds(codes, groups, n_folds=n_folds, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    folds = np.empty(len(codes), dtype=np.intp)
    folds[shuffled[np.argsort(codes[shuffled], kind="stable")]] = np.arange(len(codes)) % n_folds
    folds[np.bincount(codes)[codes] == 1] = -1
    return folds


def hold_out(
    X: NDArray[np.floating],
    codes: NDArray[np.intp],
    groups: NDArray[Any] | None,
    plan: HeadPlan,
    *,
    advance: Callable[[], None] = lambda: None,
) -> HeldOut:
    """Fits the head once for each fold, on all others, and asks it of that fold.

    What a head has to choose, it chooses anew within the rows that it is fitted on. ``advance`` is called at the end
    of each fold.
    """
    from penult.pipeline.heads.recipe import HeadOptions
    from penult.pipeline.heads.registry import recipe_of

    folds = even_folds(codes, groups, n_folds=plan.n_folds, seed=plan.seed)
    chances = np.full((len(codes), int(codes.max()) + 1), np.nan, np.float32)
    numbers = sorted(set(folds[folds >= 0].tolist()))
    began = time.perf_counter()
    for fold in numbers:
        inside, outside = folds != fold, folds == fold
        known, inner = np.unique(codes[inside], return_inverse=True)
        if len(known) < 2:
            raise InputError(
                f"all training images outside of fold {fold + 1} are of one class",
                expected="two classes in each part of the training images",
                remedy="label more images, or use fewer folds or smaller groups",
            )
        options = HeadOptions(int(inside.sum()), len(known), X.shape[1], plan.seed, plan.class_weight)
        within = None if groups is None else groups[inside]
        fitted = recipe_of(plan.head, options, plan.params).fit(X[inside], inner, groups=within, seed=plan.seed)
        rows = np.zeros((int(outside.sum()), chances.shape[1]), np.float32)
        rows[:, known] = said_of(fitted.estimator.predict_proba, X[outside])
        chances[outside] = rows
        advance()
    return HeldOut(chances, (time.perf_counter() - began) / max(1, len(numbers)))
