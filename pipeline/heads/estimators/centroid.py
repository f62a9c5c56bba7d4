"""The nearest class mean, a head for classes with a few images each."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from penult.pipeline.heads.numerics.basis import mean_and_scale
from penult.pipeline.heads.numerics.blocks import BLOCK, limit_blas_threads, standardised
from penult.pipeline.heads.numerics.linear import LinearHead, choose_temperature, class_weights

__all__ = ["NearestMean"]


class NearestMean(LinearHead):
    """Predicts the nearest class mean of standardised features, as scikit-learn's ``NearestCentroid`` does.

    Probabilities are a softmax of the negative squared distances; its temperature is chosen by leave-one-out log-loss.
    ``class_weight`` changes the odds of the classes.

    Attributes: ``temperature_``, ``centroids_`` (C, D) on raw features.
    """

    def __init__(self, *, class_weight: str | dict[Any, float] | None = None) -> None:
        self.class_weight = class_weight

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fits on X (n, D) and y (n)."""
        features, codes = self._checked(X, y)
        counts = np.bincount(codes)
        mean, scale = mean_and_scale(features)
        self.centroids_ = np.array([features[codes == c].mean(axis=0, dtype=np.float64) for c in range(len(counts))])
        centres = (self.centroids_ - mean) / scale
        offsets = -(centres**2).sum(axis=1) / 2
        scores = np.empty((len(codes), len(counts)), np.float32)
        with limit_blas_threads():
            for start in range(0, len(codes), BLOCK):
                part = slice(start, start + BLOCK)
                rows, own_class = standardised(features[part], mean, scale), codes[part]
                indices = np.arange(len(rows))
                own = (rows**2).sum(axis=1)
                block = rows @ centres.T.astype(np.float32) + offsets
                # Without the row itself, the distance to the mean of its class is n / (n - 1) times as long.
                count = np.maximum(counts[own_class], 2)
                factor = (count / (count - 1)) ** 2
                block[indices, own_class] = own / 2 + factor * (block[indices, own_class] - own / 2)
                scores[part] = block
            self.temperature_, _ = choose_temperature(scores, codes)
        shift = np.log(class_weights(self.class_weight, self.classes_, counts))
        self.coef_ = self.temperature_ * centres / scale
        self.intercept_ = self.temperature_ * offsets + shift - self.coef_ @ mean
        return self
