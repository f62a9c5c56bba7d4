"""Linear discriminant analysis in closed form: one Gaussian per class with a shared, shrunken covariance."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular

from penult.errors import HeadError
from penult.pipeline.heads.numerics.basis import Basis, RotatedRows
from penult.pipeline.heads.numerics.blocks import limit_blas_threads
from penult.pipeline.heads.numerics.linear import LinearHead, choose_temperature, class_weights, softmax

__all__ = ["ShrunkenDiscriminant", "leave_one_out_probabilities"]

PATH = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)


class ShrunkenDiscriminant(LinearHead):
    """Linear discriminant analysis whose ``shrinkage`` is chosen by leave-one-out log-loss.

    ``shrinkage`` has the meaning of scikit-learn's ``LinearDiscriminantAnalysis(solver="lsqr")`` on standardised
    features. A temperature, also chosen by leave-one-out, reduces the overconfidence of the probabilities; it changes
    no predicted class. ``class_weight`` scales the priors.

    Attributes: ``shrinkage_``, ``path_`` (rows of shrinkage, leave-one-out log-loss), ``temperature_``.
    """

    def __init__(self, shrinkage: float | None = None, *, class_weight: str | dict[Any, float] | None = None) -> None:
        self.shrinkage = shrinkage
        self.class_weight = class_weight

    def fit(self, X: ArrayLike, y: ArrayLike, *, basis: Basis | None = None) -> Self:
        """Fits on X (n, D) and y (n); ``basis`` is the exact basis of these rows, if known."""
        features, codes = self._checked(X, y)
        if self.shrinkage is not None and not 0 < self.shrinkage <= 1:
            raise HeadError(f"shrinkage is {self.shrinkage!r}", expected="a number in (0, 1], or None to search for it")
        with limit_blas_threads():
            rotation = RotatedRows.of(features, codes, basis)
            levels = PATH if self.shrinkage is None else (self.shrinkage,)
            metrics = [Metric.of(rotation, level) for level in levels]
            rows = rotation.left_out(len(levels))
            found = [choose_temperature(part, codes[rows]) for part in _left_out_scores(rotation, metrics, rows)]
        best = int(np.argmin([loss for _, loss in found]))
        self.path_ = np.array([(level, loss) for level, (_, loss) in zip(levels, found, strict=True)])
        self.shrinkage_, self.temperature_ = float(levels[best]), found[best][0]
        weights = class_weights(self.class_weight, self.classes_, rotation.counts)
        offsets = metrics[best].offsets(rotation)
        self.coef_, self.intercept_ = rotation.basis.to_raw(
            self.temperature_ * metrics[best].slopes, self.temperature_ * offsets + np.log(weights)
        )
        return self


@dataclass(frozen=True)
class Metric:
    """The inverse A of the shrunken within-class covariance: diag(inverse) + factor.T @ factor.

    ``slopes`` (C, r) are A applied to the centres, and ``products`` (C, C) those times the centres.
    """

    shrinkage: float
    inverse: NDArray[np.float64]
    factor: NDArray[np.float64]
    slopes: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def of(cls, rotation: RotatedRows, shrinkage: float) -> Self:
        """Subtracts the between-class covariance from the total, which is diagonal in the basis (Woodbury identity)."""
        spread, centres = rotation.basis.spread, rotation.centres
        between = np.sqrt(rotation.shares)[:, None] * centres
        within = float(spread.sum() - (between**2).sum()) / len(rotation.basis.mean)
        inverse = 1 / ((1 - shrinkage) * spread + shrinkage * max(within, 1e-12))
        if shrinkage < 1:
            scaled = between * inverse
            kernel = np.eye(len(centres)) / (1 - shrinkage) - scaled @ between.T
            factor = _half_of(kernel, scaled)
        else:
            factor = np.zeros_like(centres)
        slopes = centres * inverse + (centres @ factor.T) @ factor
        return cls(shrinkage, inverse, factor, slopes, slopes @ centres.T)

    def offsets(self, rotation: RotatedRows) -> NDArray[np.float64]:
        """Returns the intercepts (C) of the discriminant functions."""
        return np.log(rotation.shares) - np.diag(self.products) / 2


def _half_of(kernel: NDArray[np.float64], sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns w with w.T @ w = sides.T @ inverse(kernel) @ sides."""
    try:
        half: NDArray[np.float64] = solve_triangular(np.linalg.cholesky(kernel), sides, lower=True)
    except np.linalg.LinAlgError:  # rounding made it indefinite: a class has no variance
        values, vectors = np.linalg.eigh(kernel)
        half = (vectors / np.sqrt(np.maximum(values, 1e-12))).T @ sides
    return half


def leave_one_out_probabilities(features: NDArray[np.floating], codes: NDArray[np.intp]) -> NDArray[np.floating]:
    """Returns the probabilities (n, C) of each row by the discriminant fitted without it, for the price of one fit."""
    with limit_blas_threads():
        rotation = RotatedRows.of(features, codes, None)
        metrics = [Metric.of(rotation, level) for level in PATH]
        scores = _left_out_scores(rotation, metrics, np.arange(len(codes)))
        found = [choose_temperature(part, codes) for part in scores]
    best = int(np.argmin([loss for _, loss in found]))
    return softmax(found[best][0] * scores[best])


def _left_out_scores(rotation: RotatedRows, metrics: list[Metric], chosen: NDArray[np.intp]) -> NDArray[np.float32]:
    """Returns (metrics, m, C): the discriminant scores of each chosen row by the model fitted without it."""
    scores = np.empty((len(metrics), len(chosen), len(rotation.counts)), np.float32)
    for part, rows, codes in rotation.blocks(chosen):
        for i, metric in enumerate(metrics):
            scores[i, part] = _left_out_block(rotation, metric, rows, codes)
    return scores


def _left_out_block(
    rotation: RotatedRows, metric: Metric, rows: NDArray[np.float32], codes: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Removes each row from its class mean and from the covariance by a rank-one update (Sherman-Morrison)."""
    n, indices = len(rotation.codes), np.arange(len(rows))
    along = (rows @ metric.slopes.T.astype(np.float32)).astype(np.float64)
    own = (rows**2) @ metric.inverse.astype(np.float32) + ((rows @ metric.factor.T.astype(np.float32)) ** 2).sum(axis=1)
    products, squares = metric.products, np.diag(metric.products)
    # With d = row - own centre and e = row - each centre: e'Ae, e'Ad and d'Ad.
    to_centres = own[:, None] - 2 * along + squares
    crossed = own[:, None] - along[indices, codes][:, None] - along + products[codes]
    to_own = np.maximum(to_centres[indices, codes], 0)
    count = np.maximum(rotation.counts[codes], 2)
    removed = (1 - metric.shrinkage) * count / (count - 1) / n
    stretch = removed / np.maximum(1 - removed * to_own, 1e-6)
    distances = to_centres + stretch[:, None] * crossed**2
    # Without the row, d becomes d n / (n - 1), so its products grow by the square of that factor.
    distances[indices, codes] *= (count / (count - 1)) ** 2
    scores: NDArray[np.float64] = np.log(rotation.shares) - distances * (n - 1) / n / 2
    return scores
