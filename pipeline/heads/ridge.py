"""Least squares on class indicators with a penalty: its whole path and leave-one-out in one closed form."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penult.errors import HeadError
from penult.pipeline.heads.basis import Basis
from penult.pipeline.heads.blocks import calm_blas
from penult.pipeline.heads.linear import LinearHead, class_weights
from penult.pipeline.heads.rotation import Rotation
from penult.pipeline.heads.temperature import choose_temperature

__all__ = ["RidgePath"]

PATH = 10.0 ** np.arange(-6, 0.25, 0.5)
"""Penalties as shares of the greatest variance of any direction."""


class RidgePath(LinearHead):
    """Ridge regression on class indicators, its scores made probabilities by one temperature.

    ``alpha`` means what it means in scikit-learn's ``Ridge`` on standardised features. None, the default, chooses it,
    and the temperature with it, by exact leave-one-out log-loss. ``class_weight`` shifts the classes' odds afterwards.

    Attributes: ``alpha_``, ``path_`` (rows of alpha, leave-one-out log-loss), ``temperature_``.
    """

    def __init__(self, alpha: float | None = None, *, class_weight: str | dict[Any, float] | None = None) -> None:
        self.alpha = alpha
        self.class_weight = class_weight

    def fit(self, X: ArrayLike, y: ArrayLike, *, basis: Basis | None = None) -> Self:
        """Fits on X (n, D) and y (n); ``basis`` is that of these very rows if it is known."""
        features, codes = self._checked(X, y)
        if self.alpha is not None and not self.alpha > 0:
            raise HeadError(f"alpha is {self.alpha!r}", expected="a number above 0, or None to search for it")
        with calm_blas():
            rotation = Rotation.of(features, codes, basis)
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
    rotation: Rotation, penalties: NDArray[np.float64], models: list[NDArray[np.float64]], chosen: NDArray[np.intp]
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
