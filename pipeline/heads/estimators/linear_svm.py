"""A linear support-vector svc with probabilities."""

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from penult.errors import HeadError
from penult.pipeline.heads.numerics.basis import mean_and_scale
from penult.pipeline.heads.numerics.blocks import limit_blas_threads, standardised
from penult.pipeline.heads.numerics.folds import assign_folds
from penult.pipeline.heads.numerics.linear import LinearHead, choose_temperature

__all__ = ["LinearSVCPath"]

PATH = 10.0 ** np.arange(-5, 1)
"""Values of C in rising order; fits with large C take many times as long."""

ROUNDS = 2000


class LinearSVCPath(LinearHead):
    """scikit-learn's ``LinearSVC`` on standardised features, with probabilities from a softmax with a temperature.

    With the default ``C=None``, rising values of C are tried until the held-out log-loss rises.

    Attributes: ``C_``, ``path_`` (rows of C, held-out log-loss), ``temperature_``, ``is_converged_``.
    """

    reads_blocks = False

    def __init__(
        self,
        C: float | None = None,
        *,
        n_folds: int = 3,
        class_weight: str | dict[Any, float] | None = None,
        random_state: int = 0,
    ) -> None:
        self.C = C
        self.n_folds = n_folds
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, *, groups: ArrayLike | None = None) -> Self:
        """Fits on X (n, D) and y (n); a group is held out as a whole."""
        features, codes = self._checked(X, y)
        if self.C is not None and not self.C > 0:
            raise HeadError(f"C is {self.C!r}", expected="a number above 0, or None to search for it")
        mean, scale = mean_and_scale(features)
        rows = standardised(features, mean, scale)
        folds = assign_folds(codes, groups, n_folds=self.n_folds, seed=self.random_state)
        with limit_blas_threads():
            steps: list[tuple[float, float, float]] = []
            for c in PATH if self.C is None else (self.C,):
                temperature, loss = choose_temperature(*self._held_out_scores(rows, codes, folds, c))
                steps.append((float(c), loss, temperature))
                if loss > min(steps, key=lambda step: step[1])[1]:
                    break
            self.C_, _, self.temperature_ = min(steps, key=lambda step: step[1])
            self.path_ = np.array([step[:2] for step in steps])
            slopes, offsets, self.is_converged_ = self._fit_svc(rows, codes, self.C_)
        self.coef_ = self.temperature_ * slopes / scale
        self.intercept_ = self.temperature_ * offsets - self.coef_ @ mean
        return self

    def _held_out_scores(
        self, rows: NDArray[np.float32], codes: NDArray[np.intp], folds: NDArray[np.intp], c: float
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        scores, true = [], []
        for fold in sorted(set(folds[folds >= 0].tolist())):
            out = folds == fold
            seen = np.unique(codes[~out])
            out &= np.isin(codes, seen)
            if len(seen) < 2 or not out.any():
                continue
            slopes, offsets, _ = self._fit_svc(rows[folds != fold], np.searchsorted(seen, codes[folds != fold]), c)
            part = np.full((out.sum(), len(self.classes_)), -1e3)
            part[:, seen] = rows[out] @ slopes.T + offsets
            scores.append(part)
            true.append(codes[out])
        if not scores:
            return rows[:, :1] * np.zeros(len(self.classes_)) + np.eye(len(self.classes_))[codes], codes
        return np.concatenate(scores), np.concatenate(true)

    def _fit_svc(
        self, rows: NDArray[np.float32], codes: NDArray[np.intp], c: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
        """Returns slopes (C, D), offsets (C), and whether liblinear converged."""
        weight = self.class_weight
        if isinstance(weight, dict):
            weight = {i: weight.get(name, 1.0) for i, name in enumerate(self.classes_.tolist())}
        svc = LinearSVC(C=c, dual="auto", class_weight=weight, max_iter=ROUNDS, random_state=self.random_state)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            svc.fit(rows, codes)
        slopes, offsets = svc.coef_.astype(np.float64), np.asarray(svc.intercept_, dtype=np.float64)
        if len(slopes) == 1:
            slopes, offsets = np.concatenate([-slopes, slopes]) / 2, np.concatenate([-offsets, offsets]) / 2
        return slopes, offsets, not any(issubclass(w.category, ConvergenceWarning) for w in caught)
