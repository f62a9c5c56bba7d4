"""Gradient-boosted trees for a number, stopped when the held-out error rises."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from penult.pipeline.heads.blocks import calm_blas
from penult.pipeline.heads.boosting import Growth
from penult.pipeline.heads.folds import number_folds

__all__ = ["BoostedNumbers"]


class BoostedNumbers(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """LightGBM for a number, with few leaves, few bins and a tenth of the features per tree.

    ``booster_`` is the plain ``LGBMRegressor``; ``n_trees_`` how many rounds it took.
    """

    def __init__(
        self,
        *,
        learning_rate: float = 0.1,
        num_leaves: int = 15,
        feature_fraction: float = 0.1,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.feature_fraction = feature_fraction
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike, *, groups: ArrayLike | None = None) -> Self:
        """Fits on X (n, D) and y (n); ``groups`` are held out whole."""
        from lightgbm import LGBMRegressor

        features, numbers = validate_data(self, X, y, dtype=[np.float32, np.float64], y_numeric=True)
        out = number_folds(len(numbers), groups, n_folds=5, seed=self.random_state) == 0
        growth = Growth(LGBMRegressor, **self.get_params(deep=False))
        with calm_blas():
            self.booster_ = growth.grown(features, numbers, out if 0 < out.sum() < len(out) else None)
        self.n_trees_ = int(self.booster_.n_estimators)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Returns the number of each row, (n)."""
        check_is_fitted(self, "booster_")
        features: Any = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        numbers: NDArray[np.float64] = self.booster_.predict(features)
        return numbers
