"""Least squares with a penalty for a number instead of classes, its whole path in one closed form."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from penult.errors import HeadError
from penult.pipeline.heads.basis import Basis
from penult.pipeline.heads.blocks import BLOCK, calm_blas, standardised
from penult.pipeline.heads.linear import FLOATS
from penult.pipeline.heads.ridge import PATH

__all__ = ["RidgeNumbers"]


class RidgeNumbers(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Ridge regression on standardised features whose ``alpha`` is chosen by exact leave-one-out error.

    ``alpha`` means what it means in scikit-learn's ``Ridge``; None, the default, searches for it.

    Attributes: ``alpha_``, ``path_`` (rows of alpha, leave-one-out root mean square error), ``coef_`` (D) and
    ``intercept_`` on features as they are stored.
    """

    reads_blocks = True

    coef_: NDArray[np.float64]
    intercept_: float

    def __init__(self, alpha: float | None = None) -> None:
        self.alpha = alpha

    def fit(self, X: ArrayLike, y: ArrayLike, *, basis: Basis | None = None) -> Self:
        """Fits on X (n, D) and y (n); ``basis`` is that of these very rows if it is known."""
        features, numbers = validate_data(self, X, y, dtype=list(FLOATS), y_numeric=True)
        if self.alpha is not None and not self.alpha > 0:
            raise HeadError(f"alpha is {self.alpha!r}", expected="a number above 0, or None to search for it")
        n, level = len(numbers), float(np.mean(numbers, dtype=np.float64))
        rest = numbers.astype(np.float64) - level
        with calm_blas():
            basis = basis or Basis.of(features)
            penalties = PATH * basis.spread[:1].sum() if self.alpha is None else np.array([self.alpha / n])
            penalties = np.maximum(penalties, 1e-300)
            models = _slopes(features, rest, basis) / (basis.spread + penalties[:, None])
            errors = _left_out_errors(features, rest, basis, penalties, models)
        best = int(np.argmin(errors))
        self.path_ = np.column_stack([penalties * n, errors])
        self.alpha_ = float(self.path_[best, 0])
        coef, intercept = basis.to_raw(models[best][None], np.array([level]))
        self.coef_, self.intercept_ = coef[0], float(intercept[0])
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.floating]:
        """Returns the number of each row, (n)."""
        check_is_fitted(self, "coef_")
        features = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        numbers: NDArray[np.floating[Any]] = features @ self.coef_.astype(features.dtype) + self.intercept_
        return numbers


def _slopes(features: NDArray[np.floating], rest: NDArray[np.float64], basis: Basis) -> NDArray[np.float64]:
    """Returns how the numbers vary along each axis of the basis, (r)."""
    total = np.zeros(features.shape[1])
    for start in range(0, len(rest), BLOCK):
        part = slice(start, start + BLOCK)
        total += rest[part] @ (features[part] - basis.mean)
    slopes: NDArray[np.float64] = (total / basis.scale) @ basis.axes / len(rest)
    return slopes


def _left_out_errors(
    features: NDArray[np.floating],
    rest: NDArray[np.float64],
    basis: Basis,
    penalties: NDArray[np.float64],
    models: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Returns the root mean square error of each penalty on rows that its model was fitted without."""
    n = len(rest)
    axes, stacked = basis.axes.astype(np.float32), models.T.astype(np.float32)
    damping = (1 / (basis.spread[:, None] + penalties) / n).astype(np.float32)
    squares = np.zeros(len(penalties))
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        rows = standardised(features[part], basis.mean, basis.scale) @ axes
        leverage = np.minimum(1 / n + (rows**2) @ damping, 1 - 1e-6)
        squares += (((rest[part, None] - rows @ stacked) / (1 - leverage)) ** 2).sum(axis=0, dtype=np.float64)
    errors: NDArray[np.float64] = np.sqrt(squares / n)
    return errors
