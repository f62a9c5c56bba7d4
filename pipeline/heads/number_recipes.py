"""The recipes of the heads that give a number: a price, an age, a count."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from penult.pipeline.heads.estimators.boosted import BoostedNumbers
from penult.pipeline.heads.estimators.ridge import RidgeNumbers
from penult.pipeline.heads.numerics.folds import number_folds
from penult.pipeline.heads.recipe import Fitted, HeadOptions, Recipe, check_difference, fit_quietly


@dataclass(frozen=True)
class NumberRecipe(Recipe):
    """An unfitted scikit-learn regressor and its search space; a point of the grid is scored by its squared error."""

    def fit(
        self,
        X: NDArray[np.floating],
        codes: NDArray[Any],
        *,
        groups: ArrayLike | None = None,
        seed: int = 0,
        **known: Any,
    ) -> Fitted:
        """Searches the grid, if there is one, and fits the best on all rows; ``codes`` are the numbers."""
        check_difference(X)
        chosen = self._best_point(X, codes, groups, seed)
        extra = {name: value for name, value in {"groups": groups, **known}.items() if name in self.takes}
        estimator, notes = fit_quietly(clone(self.estimator).set_params(**chosen), X, codes, extra)
        return Fitted(estimator, {**chosen, **self.own_choices(estimator)}, notes)

    def _best_point(
        self, X: NDArray[np.floating], numbers: NDArray[Any], groups: ArrayLike | None, seed: int
    ) -> dict[str, Any]:
        points = [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        rows = np.sort(np.random.default_rng(seed).permutation(len(numbers))[: self.search_rows])
        held = None if groups is None else np.asarray(groups)[rows]
        folds = number_folds(len(rows), held, n_folds=self.n_folds, seed=seed)
        splits = [(rows[folds != fold], rows[folds == fold]) for fold in range(self.n_folds)]
        splits = [(inside, outside) for inside, outside in splits if len(inside) > 1 and len(outside)]
        if len(points) == 1 or not splits:
            return points[0]
        errors = [sum(self._error(point, X, numbers, *split) for split in splits) for point in points]
        return points[int(np.argmin(errors))]

    def _error(
        self,
        point: Mapping[str, Any],
        X: NDArray[np.floating],
        numbers: NDArray[Any],
        inside: NDArray[np.intp],
        outside: NDArray[np.intp],
    ) -> float:
        estimator, _ = fit_quietly(
            clone(self.estimator).set_params(**self.quick, **point), X[inside], numbers[inside], {}
        )
        return float(np.sum((estimator.predict(X[outside]) - numbers[outside]) ** 2))


def ridge(options: HeadOptions) -> Recipe:
    """Least squares, alpha by leave-one-out."""
    return NumberRecipe(RidgeNumbers())


def svr(options: HeadOptions) -> Recipe:
    """A support-vector machine with a Gaussian kernel; often the most accurate, and slow from 10,000 images on."""
    machine = make_pipeline(StandardScaler(), SVR(kernel="rbf", cache_size=500))
    scaled = TransformedTargetRegressor(machine, transformer=StandardScaler())
    widths = tuple(factor / options.width for factor in (0.1, 0.3, 1.0))
    grid = {"regressor__svr__C": (1.0, 10.0, 100.0), "regressor__svr__gamma": widths}
    return NumberRecipe(scaled, grid, search_rows=2000)


def lightgbm(options: HeadOptions) -> Recipe:
    """Gradient-boosted trees, their number by early stopping."""
    return NumberRecipe(BoostedNumbers(random_state=options.seed))
