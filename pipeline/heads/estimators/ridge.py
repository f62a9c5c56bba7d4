"""Ridge regression for classes and for numbers, with alpha chosen by leave-one-out in closed form."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from penult.errors import HeadError
from penult.pipeline.heads.numerics.basis import Basis, RotatedRows
from penult.pipeline.heads.numerics.blocks import BLOCK, limit_blas_threads, standardised
from penult.pipeline.heads.numerics.linear import FLOATS, LinearHead, choose_temperature, class_weights

__all__ = ["RidgePath", "RidgeRegressor"]


PATH = 10.0 ** np.arange(-6, 0.25, 0.5)
"""Penalties as shares of the largest variance of any direction."""


class RidgePath(LinearHead):
    """Ridge regression on class indicators, with probabilities from a softmax with a temperature.

    ``alpha`` has the meaning of scikit-learn's ``Ridge`` on standardised features. With the default ``alpha=None``,
    exact leave-one-out log-loss chooses alpha and the temperature. ``class_weight`` then changes the odds of classes.

    Attributes: ``alpha_``, ``path_`` (rows of alpha, leave-one-out log-loss), ``temperature_``.
    """

    def __init__(self, alpha: float | None = None, *, class_weight: str | dict[Any, float] | None = None) -> None:
        self.alpha = alpha
        self.class_weight = class_weight

    def fit(self, X: ArrayLike, y: ArrayLike, *, basis: Basis | None = None) -> Self:
        """Fits on X (n, D) and y (n); ``basis`` is the exact basis of these rows, if known."""
        features, codes = self._checked(X, y)
        if self.alpha is not None and not self.alpha > 0:
            raise HeadError(f"alpha is {self.alpha!r}", expected="a number above 0, or None to search for it")
        with limit_blas_threads():
            rotation = RotatedRows.of(features, codes, basis)
            spread, n = rotation.basis.spread, len(codes)
            penalties = PATH * spread[0] if self.alpha is None else np.array([self.alpha / n])
            models = [rotation.shares[:, None] * rotation.centres / (spread + penalty) for penalty in penalties]
            rows = rotation.left_out(len(models))
            scores = _left_out_scores(rotation, penalties, models, rows)
            found = [choose_temperature(part, codes[rows]) for part in scores]
        best = int(np.argmin([loss for _, loss in found]))
        self.path_ = np.array([(penalty * n, loss) for penalty, (_, loss) in zip(penalties, found, strict=True)])
        self.alpha_, self.temperature_ = float(self.path_[best, 0]), found[best][0]
        shift = np.log(class_weights(self.class_weight, self.classes_, rotation.counts))
        self.coef_, self.intercept_ = rotation.basis.to_raw(
            self.temperature_ * models[best], self.temperature_ * rotation.shares + shift
        )
        return self


def _left_out_scores(
    rotation: RotatedRows, penalties: NDArray[np.float64], models: list[NDArray[np.float64]], chosen: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Returns (penalties, m, C): the score of each chosen row by the model fitted without it, from the hat matrix."""
    n, n_classes = len(rotation.codes), len(rotation.counts)
    stacked = np.concatenate(models).T.astype(np.float32)
    damping = (1 / (rotation.basis.spread[:, None] + penalties) / n).astype(np.float32)
    scores = np.empty((len(penalties), len(chosen), n_classes), np.float32)
    for part, rows, codes in rotation.blocks(chosen):
        fitted = (rows @ stacked).reshape(len(rows), len(penalties), n_classes) + rotation.shares
        leverage = np.minimum(1 / n + (rows**2) @ damping, 1 - 1e-6)
        true = np.eye(n_classes)[codes][:, None, :]
        scores[:, part] = (true - (true - fitted) / (1 - leverage[:, :, None])).transpose(1, 0, 2)
    return scores


class RidgeRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Ridge regression on standardised features; exact leave-one-out error chooses ``alpha``.

    ``alpha`` has the meaning of scikit-learn's ``Ridge``; the default None chooses it.

    Attributes: ``alpha_``, ``path_`` (rows of alpha, leave-one-out root mean square error), ``coef_`` (D) and
    ``intercept_`` on unscaled features.
    """

    reads_blocks = True

    coef_: NDArray[np.float64]
    intercept_: float

    def __init__(self, alpha: float | None = None) -> None:
        self.alpha = alpha

    def fit(self, X: ArrayLike, y: ArrayLike, *, basis: Basis | None = None) -> Self:
        """Fits on X (n, D) and y (n); ``basis`` is the exact basis of these rows, if known."""
        features, numbers = validate_data(self, X, y, dtype=list(FLOATS), y_numeric=True)
        if self.alpha is not None and not self.alpha > 0:
            raise HeadError(f"alpha is {self.alpha!r}", expected="a number above 0, or None to search for it")
        n, level = len(numbers), float(np.mean(numbers, dtype=np.float64))
        rest = numbers.astype(np.float64) - level
        with limit_blas_threads():
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
        """Returns the predicted number of each row, (n)."""
        check_is_fitted(self, "coef_")
        features = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        numbers: NDArray[np.floating[Any]] = features @ self.coef_.astype(features.dtype) + self.intercept_
        return numbers


def _slopes(features: NDArray[np.floating], rest: NDArray[np.float64], basis: Basis) -> NDArray[np.float64]:
    """Returns the covariance of the numbers with each axis of the basis, (r)."""
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
