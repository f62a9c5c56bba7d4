"""Softmax regression with a squared penalty as a thing to be minimised, for one set of rows or for several folds."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.heads.logistic.fold_losses import Frame, Lockstep
from penult.pipeline.heads.logistic.lbfgs import Descent, Pair
from penult.pipeline.heads.numerics.basis import Basis
from penult.pipeline.heads.numerics.blocks import standardised
from penult.pipeline.heads.numerics.folds import sample

__all__ = ["Penalised", "Solution"]

ALPHA = 0.15
"""The share of a direction's variance taken as the loss's curvature along it; p (1 - p) is 0.25 at most."""

FEW_CLASSES = 10
"""The classes of which that share was measured."""

MOST_ROTATED = 1 << 28
"""Values of rotated rows that are worth their memory (1 GB)."""


@dataclass(frozen=True)
class Solution:
    """Where a minimisation came to: the model (C, r + 1), its penalty, the objective, and what was learned.

    ``held_out`` is the summed loss of the rows that were left out; ``gap`` how far the objective may lie above the
    optimum, as a share of itself.
    """

    model: NDArray[np.float64]
    penalty: float
    objective: float = np.inf
    gap: float = np.inf
    held_out: float = np.inf
    pairs: tuple[Pair, ...] = ()

    def moved_to(self, penalty: float) -> "Solution":
        """Returns the same model at another penalty, with what was learned there, which is exact."""
        added = np.zeros(self.model.shape)
        added[:, :-1] = penalty - self.penalty
        pairs = [pair.with_added(added.ravel()) for pair in self.pairs]
        return replace(self, penalty=penalty, pairs=tuple(pair for pair in pairs if pair is not None))


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
        is_smaller = basis.rank <= features.shape[1] // 2 and len(codes) * basis.rank <= MOST_ROTATED
        weights = of_class[codes].astype(np.float32)
        folds = np.full(len(codes), -1)
        problem = cls(basis, Lockstep(features, codes, weights, folds, len(of_class), Frame.of(basis), threads))
        return problem.rotated() if is_smaller or len(codes) <= features.shape[1] else problem

    def moved_to(self, device: str) -> Self:
        """Returns the same problem with its rows on a device of torch."""
        from penult.pipeline.heads.logistic.device import DeviceLockstep

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

    def among(self, classes: NDArray[np.intp], most: int, *, seed: int) -> "Penalised":
        """Returns the problem of telling these classes alone apart, on ``most`` of their rows at most."""
        places = np.full(self.loss.n_classes, -1)
        places[classes] = np.arange(len(classes))
        rows = np.flatnonzero(places[self.loss.codes] >= 0)
        part = self.restricted(rows[sample(places[self.loss.codes[rows]], most, seed=seed)])
        loss = replace(part.loss, codes=places[part.loss.codes], n_classes=len(classes))
        return Penalised(self.basis, loss).rotated()

    def rotated(self) -> Self:
        """Returns the same problem with its rows in the basis, which takes the turning of models out of each pass."""
        loss = self.loss
        if not loss.frame.axes.size:
            return self
        rows = standardised(loss.rows, self.basis.mean, self.basis.scale) @ self.basis.axes.astype(np.float32)
        return replace(self, loss=replace(loss, rows=rows, frame=Frame.none(self.basis.rank)))

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
        # Of many classes each one's probability is small, and bends less: its intercept would hardly move.
        level = ALPHA * min(1, FEW_CLASSES / self.loss.n_classes)
        curvature = np.broadcast_to(np.append(ALPHA * self.basis.spread + penalty, level), shape).ravel()
        descents = [
            Descent(start.model.ravel(), curvature, tolerance=tolerance, pairs=start.moved_to(penalty).pairs)
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
                _gap(descent, shape, penalty),
                held_out,
                tuple(descent.pairs),
            )
            for descent, held_out in zip(descents, outside, strict=True)
        ]


def _gap(descent: Descent, shape: tuple[int, ...], penalty: float) -> float:
    """Returns the duality gap over the value: what the slopes can still bring at most, and all is expected to bring.

    The objective bends by the penalty at least along every slope, so that it cannot fall further.
    """
    slopes = descent.gradient.reshape(shape)[:, :-1]
    most = float(np.vdot(slopes, slopes)) / (2 * penalty)
    return (most + descent.expected) / descent.value
