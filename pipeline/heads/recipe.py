"""A head before it is fitted: an estimator, what has to be chosen for it, and how that is chosen."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from itertools import product
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from penult.errors import HeadError, InputError, UnknownNameError
from penult.pipeline.heads.names import cannot_weight
from penult.pipeline.heads.numerics.blocks import BLOCK, calm_blas
from penult.pipeline.heads.numerics.folds import assign_folds, sample
from penult.pipeline.heads.numerics.linear import mean_log_loss

__all__ = ["Fitted", "HeadOptions", "Recipe", "check_difference", "fit_quietly"]


@dataclass(frozen=True)
class HeadOptions:
    """What a recipe may depend on: the size of the task, the seed, and how classes are weighted."""

    n_rows: int
    n_classes: int
    width: int
    seed: int = 0
    class_weight: str | None = None


@dataclass(frozen=True)
class Fitted:
    """A fitted estimator with the parameters that were chosen or given, and what should be said about it."""

    estimator: Any
    params: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """An unfitted scikit-learn classifier and its search space.

    Every point of ``grid`` is scored on held-out folds, by ``neg_log_loss`` or by ``accuracy``, on no more than
    ``search_rows`` rows and with the parameters of ``quick``; the best is refitted on all. A classifier without
    ``predict_proba`` is calibrated.
    """

    estimator: Any
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    scoring: str = "neg_log_loss"
    search_rows: int = 5000
    n_folds: int = 3
    quick: Mapping[str, Any] = field(default_factory=dict)

    def with_params(self, params: Mapping[str, Any]) -> Self:
        """Returns the recipe with these parameters fixed; a short name means the last step of a pipeline."""
        known = self.estimator.get_params()
        fixed = {}
        for name, value in params.items():
            full = f"{self.estimator.steps[-1][0]}__{name}" if isinstance(self.estimator, Pipeline) else name
            if name not in known and full not in known:
                raise UnknownNameError.among("parameter of this head", name, known)
            fixed[name if name in known else full] = value
        rest = {name: values for name, values in self.grid.items() if name not in fixed}
        return replace(self, estimator=clone(self.estimator).set_params(**fixed), grid=rest)

    def weighted(self, class_weight: str | None) -> Self:
        """Returns the recipe with its classes weighted so, or refuses where the estimator has no parameter for it."""
        if class_weight is None:
            return self
        names = [name for name in self.estimator.get_params() if name.rpartition("__")[2] == "class_weight"]
        if not names:
            raise cannot_weight(type(self.estimator).__name__)
        weights = dict.fromkeys(names, class_weight)
        return replace(self, estimator=clone(self.estimator).set_params(**weights))

    @property
    def takes(self) -> frozenset[str]:
        """What the estimator's ``fit`` can use besides rows and labels: of groups, basis and start, those it knows."""
        return frozenset(signature(self.estimator.fit).parameters) & {"groups", "basis", "start"}

    @property
    def reads_blocks(self) -> bool:
        """Whether the estimator makes no copy of its rows but looks at blocks of them, so that they may be a file."""
        return bool(getattr(self.estimator, "reads_blocks", False))

    def fit(
        self,
        X: NDArray[np.floating],
        codes: NDArray[np.intp],
        *,
        groups: ArrayLike | None = None,
        seed: int = 0,
        **known: Any,
    ) -> Fitted:
        """Searches the grid, if there is one, and fits the best on all rows; ``groups`` are held out whole.

        ``known`` may be a ``basis`` of these very rows, and a head to ``start`` from, for estimators that take them.
        """
        check_difference(X)
        chosen = self._search(X, codes, groups, seed)
        extra = {name: value for name, value in {"groups": groups, **known}.items() if name in self.takes}
        estimator, notes = fit_quietly(clone(self.estimator).set_params(**chosen), X, codes, extra)
        if not hasattr(estimator, "predict_proba"):
            estimator, notes = _calibrated(self.estimator, chosen, X, codes, seed), (*notes, CALIBRATED)
        return Fitted(estimator, {**chosen, **self.own_choices(estimator)}, notes)

    @staticmethod
    def own_choices(estimator: Any) -> dict[str, Any]:
        """Returns what an estimator that searches by itself has chosen."""
        return {name: getattr(estimator, name) for name in OWN_CHOICES if hasattr(estimator, name)}

    def _search(
        self, X: NDArray[np.floating], codes: NDArray[np.intp], groups: ArrayLike | None, seed: int
    ) -> dict[str, Any]:
        points = [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        if len(points) == 1:
            return points[0]
        rows, known = sample(codes, self.search_rows, seed=seed), np.bincount(codes)
        groups = None if groups is None else np.asarray(groups)[rows]
        folds = assign_folds(codes[rows], groups, n_folds=self.n_folds, seed=seed)
        splits = [(rows[folds != fold], rows[folds == fold]) for fold in sorted(set(folds[folds >= 0].tolist()))]
        splits = [split for split in splits if len(np.unique(codes[split[0]])) == len(known)]
        if not splits:
            return points[0]
        scores = [np.mean([self._score(point, X, codes, *split) for split in splits]) for point in points]
        return points[int(np.argmax(scores))]

    def _score(
        self,
        point: dict[str, Any],
        X: NDArray[np.floating],
        codes: NDArray[np.intp],
        inside: NDArray[np.intp],
        outside: NDArray[np.intp],
    ) -> float:
        estimator, _ = fit_quietly(
            clone(self.estimator).set_params(**self.quick, **point), X[inside], codes[inside], {}
        )
        if self.scoring == "accuracy":
            return float(np.mean(estimator.predict(X[outside]) == codes[outside]))
        chances = np.clip(estimator.predict_proba(X[outside]), 1e-7, 1)
        return -mean_log_loss(np.log(chances), codes[outside])


OWN_CHOICES = ("C_", "alpha_", "shrinkage_", "temperature_", "n_trees_")
"""What the estimators that search by themselves report."""

CALIBRATED = "this estimator gives no probabilities of its own: a sigmoid was fitted to its held-out scores"


def check_difference(X: NDArray[np.floating]) -> None:
    """Refuses rows that are all the same; most differ in their first block, so that this takes no time."""
    for start in range(0, len(X), BLOCK):
        if (X[start : start + BLOCK] != X[0]).any():
            return
    raise HeadError(
        f"all {len(X):,} training images have the same features",
        expected="features that differ from image to image",
        remedy="look whether the images are all the same picture, or take another backbone or tap",
    )


def fit_quietly(
    estimator: Any,
    X: NDArray[np.floating],
    codes: NDArray[np.intp],
    extra: Mapping[str, Any],
) -> tuple[Any, tuple[str, ...]]:
    """Fits an estimator, and returns it with what should be said; a refusal of scikit-learn's is a HeadError."""
    with warnings.catch_warnings(record=True) as told, calm_blas():
        warnings.simplefilter("always", ConvergenceWarning)
        try:
            estimator.fit(X, codes, **extra)
        except (ValueError, TypeError) as error:
            if isinstance(error, HeadError | InputError):
                raise
            raise HeadError(f"{type(estimator).__name__} refused the training rows: {error}") from error
    unfinished = any(issubclass(warning.category, ConvergenceWarning) for warning in told)
    unfinished |= not getattr(estimator, "is_converged_", True)
    return estimator, (("the fit stopped before it had converged",) if unfinished else ())


def _calibrated(
    estimator: Any,
    chosen: dict[str, Any],
    X: NDArray[np.floating],
    codes: NDArray[np.intp],
    seed: int,
) -> Any:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedKFold

    n_folds = min(3, int(np.bincount(codes).min()))
    if n_folds < 2:
        raise HeadError(
            "a class has one training image, so the scores cannot be calibrated",
            expected="two images per class at least",
            remedy="label another, or take a head with probabilities of its own: logistic, lda, ridge, knn",
        )
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    with calm_blas():
        return CalibratedClassifierCV(clone(estimator).set_params(**chosen), cv=folds, ensemble=False).fit(X, codes)
