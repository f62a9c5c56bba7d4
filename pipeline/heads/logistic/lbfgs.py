"""L-BFGS without a callback: the caller evaluates trial points, so that several minimisations share one pass."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Descent", "Pair"]

Vector = NDArray[np.float64]

MEMORY = 8
SUFFICIENT = 1e-4
SHORTEST = 1e-6


@dataclass(frozen=True)
class Pair:
    """A step, the change of the gradient along it, and their dot product, which is above 0."""

    step: Vector
    gradient_change: Vector
    product: float

    def with_added(self, curvature: Vector) -> "Pair | None":
        """Returns the pair for the function plus a quadratic; None if the curvature is not positive."""
        gradient_change = self.gradient_change + curvature * self.step
        product = float(self.step @ gradient_change)
        return Pair(self.step, gradient_change, product) if product > 0 else None


class Descent:
    """Minimises a smooth convex function from ``start``; ``curvature`` is a diagonal estimate of its Hessian.

    The caller evaluates the function and its gradient at ``trial`` and passes both to ``update``, until ``is_done``.
    ``point`` is the best point so far and ``value`` the function there. The descent ends when the expected decrease is
    below ``tolerance`` times the value, or after ``rounds`` evaluations (``is_converged`` is then False). ``pairs``
    are curvature pairs of a similar minimisation.
    """

    def __init__(
        self,
        start: Vector,
        curvature: Vector,
        *,
        tolerance: float,
        pairs: Sequence[Pair] = (),
        rounds: int = 1000,
    ) -> None:
        self.point = start
        self.value = np.inf
        self.trial = start
        self.is_done = False
        self.is_converged = False
        self.expected = np.inf
        self.pairs = deque(pairs, maxlen=MEMORY)
        self._curvature = curvature
        self._tolerance = tolerance
        self._rounds = rounds
        self._gradient: Vector = np.empty(0)
        self._direction: Vector = np.empty(0)
        self._slope = 0.0
        self._step = 1.0

    def update(self, value: float, gradient: Vector) -> bool:
        """Takes value and gradient at ``trial`` and sets the next trial; True if the trial became the new point."""
        self._rounds -= 1
        first = not np.isfinite(self.value)
        if not first and not value <= self.value + SUFFICIENT * self._step * self._slope:
            self._shorten(value)
            return False
        if not first:
            self._remember(gradient)
        self.point, self.value, self._gradient = self.trial, value, gradient
        self._direction = -self._inverse_hessian(gradient)
        self._slope = float(self._direction @ gradient)
        self.expected = -self._slope / 2
        self._step = 1.0
        self.is_converged = self.expected <= self._tolerance * abs(value)
        self.is_done = self.is_converged or self._rounds <= 0
        self.trial = self.point + self._direction
        return True

    @property
    def gradient(self) -> Vector:
        """The gradient at the point."""
        return self._gradient

    def _shorten(self, value: float) -> None:
        """Backtracks to the minimum of the interpolating parabola, between a tenth and a half of the step."""
        rise = value - self.value - self._step * self._slope
        best = -self._slope * self._step / (2 * rise) if np.isfinite(rise) and rise > 0 else 0.1
        self._step *= min(0.5, max(0.1, best))
        self.is_done = self._rounds <= 0 or self._step < SHORTEST
        self.trial = self.point + self._step * self._direction

    def _remember(self, gradient: Vector) -> None:
        step, gradient_change = self.trial - self.point, gradient - self._gradient
        product = float(step @ gradient_change)
        if product > 0:
            self.pairs.append(Pair(step, gradient_change, product))

    def _inverse_hessian(self, gradient: Vector) -> Vector:
        """Applies the two-loop recursion; the initial Hessian is the diagonal, scaled by the newest pair."""
        rest = gradient.copy()
        shares = []
        for pair in reversed(self.pairs):
            share = float(pair.step @ rest) / pair.product
            rest -= share * pair.gradient_change
            shares.append(share)
        rest /= self._curvature
        if self.pairs:
            newest = self.pairs[-1]
            rest *= newest.product / float(newest.gradient_change @ (newest.gradient_change / self._curvature))
        for pair, share in zip(self.pairs, reversed(shares), strict=True):
            rest += (share - float(pair.gradient_change @ rest) / pair.product) * pair.step
        return rest
