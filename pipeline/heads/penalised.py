"""Softmax regression with a squared penalty as a thing to be minimised, for one set of rows or for several folds."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.heads.basis import Basis
from penult.pipeline.heads.blocks import standardised
from penult.pipeline.heads.descent import Descent, Pair
from penult.pipeline.heads.lockstep import Frame, Lockstep

__all__ = ["Penalised", "Solution"]

ALPHA = 0.15
"""The share of a direction's variance taken as the loss's curvature along it; p (1 - p) is 0.25 at most."""

MOST_ROTATED = 1 << 28
"""Values of rotated rows that are worth their memory (1 GB)."""


@dataclass(frozen=True)
class Solution:
    """Where a minimisation came to: the model (C, r + 1), its penalty, the objective, and what was learned.

    ``held_out`` is the summed loss of the rows that were left out; ``gap`` the relative decrease still expected.
    """

    model: NDArray[np.float64]
    penalty: float
    objective: float = np.inf
    gap: float = np.inf
    held_out: float = np.inf
    pairs: tuple[Pair, ...] = ()


@dataclass
class Penalised:
    """Rows in a basis with their classes; ``passes`` counts how often all rows were gone through."""

    basis: Basis
    loss: Lockstep
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
        """Leaves the rows as they are, but rotates them where the basis is much smaller than they are wide."""
        rows, frame = features, Frame.of(basis)
        is_smaller = basis.rank <= features.shape[1] // 2 and len(codes) * basis.rank <= MOST_ROTATED
        if is_smaller or len(codes) <= features.shape[1]:
            rows = standardised(features, basis.mean, basis.scale) @ basis.axes.astype(np.float32)
            frame = Frame.none(basis.rank)
        weights = of_class[codes].astype(np.float32)
        folds = np.full(len(codes), -1)
        return cls(basis, Lockstep(rows, codes, weights, folds, len(of_class), frame, threads))

    def moved_to(self, device: str) -> Self:
        """Returns the same problem with its rows on a device of torch."""
        from penult.pipeline.heads.device import DeviceLockstep

        parts = {entry.name: getattr(self.loss, entry.name) for entry in fields(self.loss)}
        return replace(self, loss=DeviceLockstep(**parts, device=device))

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

    @property
    def zero(self) -> Solution:
        """The model that knows nothing; the last column is the intercept."""
        return Solution(np.zeros((self.loss.n_classes, self.basis.rank + 1)), self.strongest)

    @property
    def strongest(self) -> float:
        """The penalty, a half decade, at which even the widest direction is held back."""
        half_decade = 10**0.5
        return float(half_decade ** np.ceil(np.log(ALPHA * self.basis.spread[0]) / np.log(half_decade)))

    @property
    def _doubling(self) -> int:
        # Two opposite rows of a softmax carry half the squared length of scikit-learn's one row for two classes.
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
        curvature = np.broadcast_to(np.append(ALPHA * self.basis.spread + penalty, ALPHA), shape).ravel()
        descents = [
            Descent(start.model.ravel(), curvature, tolerance=tolerance, pairs=_shifted(start, penalty))
            for start in starts
        ]
        outside = [np.inf] * len(starts)
        while asking := [i for i, descent in enumerate(descents) if not descent.is_done]:
            trials = np.stack([descents[i].trial.reshape(shape) for i in asking])
            answers = self.loss.evaluate(trials, [folds[i] for i in asking])
            self.passes += 1
            for i, trial, answer in zip(asking, trials, answers, strict=True):
                slopes = trial[:, :-1]
                answer.gradient[:, :-1] += penalty * slopes
                value = answer.loss + penalty / 2 * float(np.vdot(slopes, slopes))
                if descents[i].tell(value, answer.gradient.ravel()):
                    outside[i] = answer.held_out
        return [
            Solution(
                descent.point.reshape(shape),
                penalty,
                descent.value,
                descent.expected / descent.value,
                held_out,
                tuple(descent.pairs),
            )
            for descent, held_out in zip(descents, outside, strict=True)
        ]


def _shifted(start: Solution, penalty: float) -> list[Pair]:
    """Turns what was learned at one penalty into what would have been learned at another, which is exact."""
    added = np.zeros(start.model.shape)
    added[:, :-1] = penalty - start.penalty
    shifted = [pair.with_added(added.ravel()) for pair in start.pairs]
    return [pair for pair in shifted if pair is not None]
