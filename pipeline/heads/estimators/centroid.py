"""The nearest class mean: the head that a handful of images per class is enough for."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from penult.pipeline.heads.numerics.basis import mean_and_scale
from penult.pipeline.heads.numerics.blocks import BLOCK, calm_blas, standardised
from penult.pipeline.heads.numerics.linear import LinearHead, choose_temperature, class_weights

__all__ = ["NearestMean"]


class NearestMean(LinearHead):
    """Calls a row by the nearest class mean among standardised features, as scikit-learn's ``NearestCentroid`` does.

    Probabilities are a softmax of the negative squared distances, its temperature chosen by leave-one-out log-loss.
    There is nothing else to choose. ``class_weight`` shifts the classes' odds.

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
        with calm_blas():
            for start in range(0, len(codes), BLOCK):
                part = slice(start, start + BLOCK)
                rows, true = standardised(features[part], mean, scale), codes[part]
                places = np.arange(len(rows))
                own = (rows**2).sum(axis=1)
                block = rows @ centres.T.astype(np.float32) + offsets
                # A row pulls its own centre towards itself; without it the distance is n / (n - 1) times as long.
                count = np.maximum(counts[true], 2)
                longer = (count / (count - 1)) ** 2
                block[places, true] = own / 2 + longer * (block[places, true] - own / 2)
                scores[part] = block
            self.temperature_, _ = choose_temperature(scores, codes)
        shift = np.log(class_weights(self.class_weight, self.classes_, counts))
        self.coef_ = self.temperature_ * centres / scale
        self.intercept_ = self.temperature_ * offsets + shift - self.coef_ @ mean
        return self
