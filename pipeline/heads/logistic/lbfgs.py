"""One minimisation by L-BFGS that asks where to evaluate and is told, so that several can share each pass."""

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
    """A step and how the gradient turned along it; ``bend`` is their product, which is above 0."""

    moved: Vector
    turned: Vector
    bend: float

    def with_added(self, curvature: Vector) -> "Pair | None":
        """Returns what the pair would be with a quadratic added to the function; None where that bends down."""
        turned = self.turned + curvature * self.moved
        bend = float(self.moved @ turned)
        return Pair(self.moved, turned, bend) if bend > 0 else None


class Descent:
    """Minimises a smooth convex function from ``start``, with ``curvature`` as the diagonal guess of its Hessian.

    Evaluate the function and its gradient at ``trial``, ``tell`` the two, and go on until ``is_done``; ``point`` is
    the best so far and ``value`` the function there. It ends when the decrease still expected is below
    ``tolerance`` times the value, or after ``rounds`` evaluations (``is_converged`` is then False). ``pairs`` are
    what a like minimisation learned of the Hessian.
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

    def tell(self, value: float, gradient: Vector) -> bool:
        """Takes the function at ``trial`` and chooses the next trial; True when the trial became the new point."""
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
        """Steps back to the minimum of the parabola through what is known, between a tenth and a half of the step."""
        rise = value - self.value - self._step * self._slope
        best = -self._slope * self._step / (2 * rise) if np.isfinite(rise) and rise > 0 else 0.1
        self._step *= min(0.5, max(0.1, best))
        self.is_done = self._rounds <= 0 or self._step < SHORTEST
        self.trial = self.point + self._step * self._direction

    def _remember(self, gradient: Vector) -> None:
        moved, turned = self.trial - self.point, gradient - self._gradient
        bend = float(moved @ turned)
        if bend > 0:
            self.pairs.append(Pair(moved, turned, bend))

    def _inverse_hessian(self, gradient: Vector) -> Vector:
        """Applies the two-loop recursion with the diagonal guess, scaled by the newest pair, in its middle."""
        rest = gradient.copy()
        shares = []
        for pair in reversed(self.pairs):
            share = float(pair.moved @ rest) / pair.bend
            rest -= share * pair.turned
            shares.append(share)
        rest /= self._curvature
        if self.pairs:
            newest = self.pairs[-1]
            rest *= newest.bend / float(newest.turned @ (newest.turned / self._curvature))
        for pair, share in zip(self.pairs, reversed(shares), strict=True):
            rest += (share - float(pair.turned @ rest) / pair.bend) * pair.moved
        return rest
