"""What a head says of training images that it was not fitted on: each is held out once; the test is untouched."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.heads.numerics.folds import MANY_ROWS, assign_folds
from penult.pipeline.heads.scoring import said_of

if TYPE_CHECKING:
    from penult.pipeline.heads.numerics.basis import Basis

__all__ = ["HeadPlan", "HeldOut", "even_folds", "fitted_parts", "hold_out"]

LEAST_A_CLASS = 2
"""So many rows of a class are fitted on, however small the share, so that one can be held out in choosing."""


@dataclass(frozen=True)
class HeadPlan:
    """A head by name with its parameters, the weighting of classes, how many folds are held out, and the seed.

    ``share`` is the part of the rows outside of a fold that the head is fitted on.
    """

    head: str = "logistic"
    params: Mapping[str, Any] = field(default_factory=dict)
    class_weight: str | None = None
    n_folds: int = 5
    seed: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.n_folds < 2:
            raise InputError(f"there are {self.n_folds} folds", expected="2 or more")
        if not 0 < self.share <= 1:
            raise InputError(f"the share of the rows is {self.share}", expected="above 0, and 1 at most")


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
    basis: "Basis | None" = None,
    advance: Callable[[], None] = lambda: None,
) -> HeldOut:
    """Fits the head once for each fold, on all others, and asks it of that fold.

    What a head has to choose, it chooses anew within the rows that it is fitted on. ``basis`` is one of full rank of
    all rows, for a head that only descends along its axes: to find those of each part costs more than all the rest.
    ``advance`` is called at the end of each fold.
    """
    from penult.pipeline.heads.recipe import HeadOptions
    from penult.pipeline.heads.registry import recipe_of

    folds = even_folds(codes, groups, n_folds=plan.n_folds, seed=plan.seed)
    chances = np.full((len(codes), int(codes.max()) + 1), np.nan, np.float32)
    numbers = sorted(set(folds[folds >= 0].tolist()))
    began = time.perf_counter()
    for fold in numbers:
        inside, outside = _fitted(folds != fold, codes, groups, plan), folds == fold
        known, inner = np.unique(codes[inside], return_inverse=True)
        if len(known) < 2:
            raise InputError(
                f"all training images outside of fold {fold + 1} are of one class",
                expected="two classes in each part of the training images",
                remedy="label more images, or use fewer folds or smaller groups",
            )
        options = HeadOptions(len(inside), len(known), X.shape[1], plan.seed, plan.class_weight)
        within = None if groups is None else groups[inside]
        recipe = recipe_of(plan.head, options, plan.params)
        part = X[inside]
        axes = None if basis is None else _moved(basis, part)
        fitted = recipe.fit(part, inner, groups=within, seed=plan.seed, basis=axes)
        rows = np.zeros((int(outside.sum()), chances.shape[1]), np.float32)
        rows[:, known] = said_of(fitted.estimator.predict_proba, X[outside])
        chances[outside] = rows
        advance()
    return HeldOut(chances, (time.perf_counter() - began) / max(1, len(numbers)))


def fitted_parts(codes: NDArray[np.intp], groups: NDArray[Any] | None, plan: HeadPlan) -> list[NDArray[np.intp]]:
    """Returns for each fold the places of the rows that `hold_out` fits the head of a plan on."""
    folds = even_folds(codes, groups, n_folds=plan.n_folds, seed=plan.seed)
    return [_fitted(folds != fold, codes, groups, plan) for fold in sorted(set(folds[folds >= 0].tolist()))]


def _fitted(
    inside: NDArray[np.bool_], codes: NDArray[np.intp], groups: NDArray[Any] | None, plan: HeadPlan
) -> NDArray[np.intp]:
    """Returns the places of the rows to fit on: of each class those that come first in an order of the groups."""
    places = np.flatnonzero(inside)
    if plan.share == 1:
        return places
    own = np.arange(len(codes)) if groups is None else np.unique(groups.astype(str), return_inverse=True)[1]
    turn = np.random.default_rng([plan.seed, 1]).permutation(int(own.max()) + 1)[own]
    ordered = places[np.lexsort((places, turn[places], codes[places]))]
    sizes = np.bincount(codes[ordered])
    rank = np.arange(len(ordered)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    most = np.maximum(LEAST_A_CLASS, np.round(plan.share * sizes))
    return np.sort(ordered[rank < most[codes[ordered]]])


def _moved(basis: "Basis", rows: NDArray[np.floating]) -> "Basis":
    """Returns the axes of a basis for rows that are standardised by themselves."""
    from penult.pipeline.heads.numerics.basis import mean_and_scale

    mean, scale = mean_and_scale(rows)
    return replace(basis, n=len(rows), mean=mean, scale=scale, is_exact=False)
