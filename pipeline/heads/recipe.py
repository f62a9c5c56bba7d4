"""Recipes: an unfitted estimator, the parameters to choose, and how to choose them."""

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
from penult.pipeline.heads.names import Task, class_weight_error
from penult.pipeline.heads.numerics.blocks import BLOCK, limit_blas_threads
from penult.pipeline.heads.numerics.folds import assign_folds, number_folds, sample
from penult.pipeline.heads.numerics.linear import mean_log_loss

__all__ = ["FittedRecipe", "HeadOptions", "Recipe"]

FITTED_PARAMETERS = ("C_", "alpha_", "shrinkage_", "temperature_", "n_trees_")
"""Attributes in which estimators store the parameters that they chose themselves."""

CALIBRATED = "this estimator has no predict_proba: a sigmoid was fitted to its held-out scores"


@dataclass(frozen=True)
class HeadOptions:
    """The facts that a recipe may depend on: size of the task, seed and class weights."""

    n_rows: int
    n_classes: int
    width: int
    seed: int = 0
    class_weight: str | None = None


@dataclass(frozen=True)
class FittedRecipe:
    """A fitted estimator, the parameters that were chosen or given, and notes for the user."""

    estimator: Any
    params: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """An unfitted scikit-learn estimator and its search space.

    The points of ``grid`` are scored on held-out folds of at most ``search_rows`` rows, with the parameters of
    ``quick``. The score of classes is ``neg_log_loss`` or ``accuracy``, the score of numbers their squared error. The
    best point is refitted on all rows. A classifier without ``predict_proba`` is calibrated.
    """

    estimator: Any
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    scoring: str = "neg_log_loss"
    search_rows: int = 5000
    n_folds: int = 3
    quick: Mapping[str, Any] = field(default_factory=dict)
    task: Task = "classification"

    def with_params(self, params: Mapping[str, Any]) -> Self:
        """Returns the recipe with fixed parameters; a short name is a parameter of a pipeline's last step."""
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
        """Returns the recipe with this class weight; raises InputError if the estimator has no such parameter."""
        if class_weight is None:
            return self
        names = [name for name in self.estimator.get_params() if name.rpartition("__")[2] == "class_weight"]
        if not names:
            raise class_weight_error(type(self.estimator).__name__)
        weights = dict.fromkeys(names, class_weight)
        return replace(self, estimator=clone(self.estimator).set_params(**weights))

    @property
    def fit_arguments(self) -> frozenset[str]:
        """The optional arguments that the estimator's ``fit`` takes: some of groups, basis and start."""
        return frozenset(signature(self.estimator.fit).parameters) & {"groups", "basis", "start"}

    @property
    def reads_blocks(self) -> bool:
        """Whether the estimator reads its rows in blocks without a copy, so that they may be a file."""
        return bool(getattr(self.estimator, "reads_blocks", False))

    def fit(
        self,
        X: NDArray[np.floating],
        y: NDArray[Any],
        *,
        groups: ArrayLike | None = None,
        seed: int = 0,
        **more: Any,
    ) -> FittedRecipe:
        """Searches the grid, if there is one, and fits the best point on all rows.

        ``y`` are class codes, numbers or a matrix of tags. A group is held out as a whole. ``more`` may be a ``basis``
        of these rows and a head to ``start`` from, for estimators that take them.
        """
        _check_rows_differ(X)
        chosen = self._search(X, y, groups, seed)
        extra = {name: value for name, value in {"groups": groups, **more}.items() if name in self.fit_arguments}
        estimator, notes = _fit(clone(self.estimator).set_params(**chosen), X, y, extra)
        if self.task != "regression" and not hasattr(estimator, "predict_proba"):
            estimator, notes = _calibrated(self.estimator, chosen, X, y, seed), (*notes, CALIBRATED)
        own = {name: getattr(estimator, name) for name in FITTED_PARAMETERS if hasattr(estimator, name)}
        return FittedRecipe(estimator, {**chosen, **own}, notes)

    def _search(self, X: NDArray[np.floating], y: NDArray[Any], groups: ArrayLike | None, seed: int) -> dict[str, Any]:
        points = [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        if len(points) == 1:
            return points[0]
        splits = self._splits(y, groups, seed)
        if not splits:
            return points[0]
        scores = [np.mean([self._score(point, X, y, *split) for split in splits]) for point in points]
        return points[int(np.argmax(scores))]

    def _splits(
        self, y: NDArray[Any], groups: ArrayLike | None, seed: int
    ) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Returns the rows inside and outside of each fold, for folds that can be scored."""
        is_regression = self.task == "regression"
        if is_regression:
            rows = np.sort(np.random.default_rng(seed).permutation(len(y))[: self.search_rows])
        else:
            rows = sample(y, self.search_rows, seed=seed)
        groups = None if groups is None else np.asarray(groups)[rows]
        if is_regression:
            folds = number_folds(len(rows), groups, n_folds=self.n_folds, seed=seed)
        else:
            folds = assign_folds(y[rows], groups, n_folds=self.n_folds, seed=seed)
        splits = [(rows[folds != fold], rows[folds == fold]) for fold in sorted(set(folds[folds >= 0].tolist()))]
        if is_regression:
            return [split for split in splits if len(split[0]) > 1]
        n_classes = int(y.max()) + 1
        return [split for split in splits if len(np.unique(y[split[0]])) == n_classes]

    def _score(
        self,
        point: dict[str, Any],
        X: NDArray[np.floating],
        y: NDArray[Any],
        inside: NDArray[np.intp],
        outside: NDArray[np.intp],
    ) -> float:
        estimator, _ = _fit(clone(self.estimator).set_params(**self.quick, **point), X[inside], y[inside], {})
        if self.task == "regression":
            return -float(np.sum((estimator.predict(X[outside]) - y[outside]) ** 2))
        if self.scoring == "accuracy":
            return float(np.mean(estimator.predict(X[outside]) == y[outside]))
        probabilities = np.clip(estimator.predict_proba(X[outside]), 1e-7, 1)
        return -mean_log_loss(np.log(probabilities), y[outside])


def _check_rows_differ(X: NDArray[np.floating]) -> None:
    """Raises HeadError if all rows are equal; rows usually differ in the first block, so this takes no time."""
    for start in range(0, len(X), BLOCK):
        if (X[start : start + BLOCK] != X[0]).any():
            return
    raise HeadError(
        f"all {len(X):,} training images have the same features",
        expected="features that differ from image to image",
        remedy="check whether the images are all the same picture, or use another backbone or tap",
    )


def _fit(
    estimator: Any, X: NDArray[np.floating], y: NDArray[Any], extra: Mapping[str, Any]
) -> tuple[Any, tuple[str, ...]]:
    """Returns the fitted estimator and notes; errors of scikit-learn become HeadErrors."""
    with warnings.catch_warnings(record=True) as caught, limit_blas_threads():
        warnings.simplefilter("always", ConvergenceWarning)
        try:
            estimator.fit(X, y, **extra)
        except (ValueError, TypeError) as error:
            if isinstance(error, HeadError | InputError):
                raise
            raise HeadError(f"{type(estimator).__name__} cannot be fitted to the training rows: {error}") from error
    unfinished = any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
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
            expected="at least two images per class",
            remedy="label another image, or use a head that has probabilities: logistic, lda, ridge, knn",
        )
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    with limit_blas_threads():
        return CalibratedClassifierCV(clone(estimator).set_params(**chosen), cv=folds, ensemble=False).fit(X, codes)
