"""The objective of softmax regression with a squared penalty, and its minimisation for one or several folds."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.heads.logistic.fold_losses import FoldLosses, Frame
from penult.pipeline.heads.logistic.lbfgs import Descent, Pair
from penult.pipeline.heads.numerics.basis import Basis
from penult.pipeline.heads.numerics.blocks import standardised
from penult.pipeline.heads.numerics.folds import sample

__all__ = ["Penalised", "Solution"]

ALPHA = 0.15
"""The curvature of the loss along a direction, as a share of its variance; p (1 - p) is at most 0.25."""

FEW_CLASSES = 10
"""The number of classes for which ``ALPHA`` was measured."""

MOST_ROTATED = 1 << 28
"""The most values of rotated rows in memory (1 GB)."""


@dataclass(frozen=True)
class Solution:
    """The result of a minimisation: model (C, r + 1), penalty, objective and curvature pairs.

    ``held_out`` is the summed loss of the held-out rows; ``gap`` is a bound of the relative distance to the optimum.
    """

    model: NDArray[np.float64]
    penalty: float
    objective: float = np.inf
    gap: float = np.inf
    held_out: float = np.inf
    pairs: tuple[Pair, ...] = ()

    def moved_to(self, penalty: float) -> "Solution":
        """Returns the same model at another penalty; the curvature pairs are updated exactly."""
        added = np.zeros(self.model.shape)
        added[:, :-1] = penalty - self.penalty
        pairs = [pair.with_added(added.ravel()) for pair in self.pairs]
        return replace(self, penalty=penalty, pairs=tuple(pair for pair in pairs if pair is not None))


@dataclass
class Penalised:
    """Rows in a basis with their classes; ``passes`` counts the passes over all rows."""

    basis: Basis
    loss: FoldLosses
    passes: int = 0

    @classmethod
    def of(
        cls,
        features: NDArray[np.floating],
        codes: NDArray[np.intp],
        basis: Basis,
        of_class: NDArray[np.float64],
        *,
        threads: int = 1,
    ) -> Self:
        """Returns the problem; rows are rotated into the basis only if it is much narrower than they are."""
        is_smaller = basis.rank <= features.shape[1] // 2 and len(codes) * basis.rank <= MOST_ROTATED
        weights = of_class[codes].astype(np.float32)
        folds = np.full(len(codes), -1)
        problem = cls(basis, FoldLosses(features, codes, weights, folds, len(of_class), Frame.of(basis), threads))
        return problem.rotated() if is_smaller or len(codes) <= features.shape[1] else problem

    def moved_to(self, device: str) -> Self:
        """Returns the same problem with its rows on a torch device."""
        from penult.pipeline.heads.logistic.device import DeviceFoldLosses

        parts = {entry.name: getattr(self.loss, entry.name) for entry in fields(self.loss)}
        return replace(self, loss=DeviceFoldLosses(**parts, device=device))

    def restricted(self, rows: NDArray[np.intp]) -> "Penalised":
        """Returns the same problem on some of the rows."""
        loss = self.loss
        part = replace(
            loss,
            rows=loss.rows[rows],
            codes=loss.codes[rows],
            weights=loss.weights[rows],
            folds=loss.folds[rows],
        )
        return Penalised(self.basis, part)

    def among(self, classes: NDArray[np.intp], most: int, *, seed: int) -> "Penalised":
        """Returns the problem restricted to these classes and to at most ``most`` of their rows."""
        new_codes = np.full(self.loss.n_classes, -1)
        new_codes[classes] = np.arange(len(classes))
        rows = np.flatnonzero(new_codes[self.loss.codes] >= 0)
        part = self.restricted(rows[sample(new_codes[self.loss.codes[rows]], most, seed=seed)])
        loss = replace(part.loss, codes=new_codes[part.loss.codes], n_classes=len(classes))
        return Penalised(self.basis, loss).rotated()

    def rotated(self) -> Self:
        """Returns the same problem with its rows in the basis, so that passes need not convert models."""
        loss = self.loss
        if not loss.frame.axes.size:
            return self
        rows = standardised(loss.rows, self.basis.mean, self.basis.scale) @ self.basis.axes.astype(np.float32)
        return replace(self, loss=replace(loss, rows=rows, frame=Frame.none(self.basis.rank)))

    @property
    def zero(self) -> Solution:
        """The model of zeros; the last column is the intercept."""
        return Solution(np.zeros((self.loss.n_classes, self.basis.rank + 1)), self.strongest)

    @property
    def strongest(self) -> float:
        """The penalty, rounded up to a half decade, at which even the direction of largest variance is shrunk."""
        half_decade = 10**0.5
        return float(half_decade ** np.ceil(np.log(ALPHA * self.basis.spread[0]) / np.log(half_decade)))

    @property
    def _doubling(self) -> int:
        # The two opposite rows of a softmax have half the squared norm of scikit-learn's single row for two classes.
        return 2 if self.loss.n_classes == 2 else 1

    def to_c(self, penalty: float) -> float:
        """Returns scikit-learn's C for a penalty on the mean loss, and the penalty for a C."""
        return self._doubling / (penalty * float(self.loss.weights.sum(dtype=np.float64)))

    def solve(
        self,
        starts: Sequence[Solution],
        penalty: float,
        *,
        folds: Sequence[int | None] = (None,),
        tolerance: float,
    ) -> list[Solution]:
        """Minimises the mean loss plus ``penalty`` from each start, start i without the rows of ``folds[i]``."""
        shape = starts[0].model.shape
        # With many classes each probability is small and so is its curvature; otherwise intercepts would hardly move.
        level = ALPHA * min(1, FEW_CLASSES / self.loss.n_classes)
        curvature = np.broadcast_to(np.append(ALPHA * self.basis.spread + penalty, level), shape).ravel()
        descents = [
            Descent(start.model.ravel(), curvature, tolerance=tolerance, pairs=start.moved_to(penalty).pairs)
            for start in starts
        ]
        outside = [np.inf] * len(starts)
        while active := [i for i, descent in enumerate(descents) if not descent.is_done]:
            trials = np.stack([descents[i].trial.reshape(shape) for i in active])
            results = self.loss.evaluate(trials, [folds[i] for i in active])
            self.passes += 1
            for i, trial, result in zip(active, trials, results, strict=True):
                slopes = trial[:, :-1]
                result.gradient[:, :-1] += penalty * slopes
                value = result.loss + penalty / 2 * float(np.vdot(slopes, slopes))
                if descents[i].update(value, result.gradient.ravel()):
                    outside[i] = result.held_out
        return [
            Solution(
                descent.point.reshape(shape),
                penalty,
                descent.value,
                _gap(descent, shape, penalty),
                held_out,
                tuple(descent.pairs),
            )
            for descent, held_out in zip(descents, outside, strict=True)
        ]


def _gap(descent: Descent, shape: tuple[int, ...], penalty: float) -> float:
    """Returns a bound of the remaining decrease, relative to the objective.

    The curvature along every slope is at least the penalty, which bounds the decrease from the slopes; the expected
    decrease of the descent is added.
    """
    slopes = descent.gradient.reshape(shape)[:, :-1]
    most = float(np.vdot(slopes, slopes)) / (2 * penalty)
    return (most + descent.expected) / descent.value
