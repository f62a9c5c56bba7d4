"""What more labels would bring: the power laws that a learning curve allows, followed beyond its end."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.report.content import CurvePoint
from penult.pipeline.training.intervals import Interval

__all__ = ["LEAST_POINTS", "Outlook", "outlook"]

LEAST_POINTS = 3
"""A power law with a floor has three parameters."""

INEXACT = 0.002
"""No learning curve is quite a power law, however many images it was measured on."""

POWERS = np.linspace(0.1, 1.5, 15)
FLOORS = np.linspace(0, 1, 21)
NO_FLOOR = 10
"""How much more a law without a floor is believed beforehand than one with any single floor: a third of all laws."""

LEVELS = np.linspace(-4, 4, 17)


@dataclass(frozen=True)
class Outlook:
    """The accuracy that ``n`` training images would reach, how much more that is than now, and what none surpass.

    Each is the median of the power laws that the points allow, with the bounds of 95 % of them.
    """

    n: int
    accuracy: Interval
    gain: Interval
    limit: Interval

    @property
    def is_sure(self) -> bool:
        """Whether the gain is known to two points either way."""
        return self.gain.high - self.gain.low <= 0.04


def outlook(points: Sequence[CurvePoint], tested: int, *, factor: float = 2) -> Outlook | None:
    """Follows the curve to ``factor`` times its last number of images; None where it has fewer than three points.

    The error is taken to be a floor and a power of the number of images that falls: floor + b * n ** -c. Every c from
    0.1 to 1.5, every floor from 0 to the last error and every last error near the measured one is weighed by how well
    it explains all points, each of which judged ``tested`` images.
    """
    if len(points) < LEAST_POINTS or not tested:
        return None
    last = points[-1]
    errors = np.array([1 - point.accuracy for point in points])
    spreads = np.sqrt(_smoothed(errors, tested) * (1 - _smoothed(errors, tested)) / tested + INEXACT**2)
    power, floor, level = (part.ravel() for part in np.meshgrid(POWERS, FLOORS, LEVELS, indexing="ij"))
    level = errors[-1] + level * spreads[-1]
    power, floor, level = (part[(level > 0) & (level < 1)] for part in (power, floor, level))
    floor = floor * level
    fall = level - floor
    ratios = np.array([point.n / last.n for point in points])
    told = floor + fall * ratios[:, np.newaxis] ** -power
    misfit = (((told - errors[:, np.newaxis]) / spreads[:, np.newaxis]) ** 2).sum(axis=0)
    weight = np.exp(-(misfit - misfit.min()) / 2) * np.where(floor > 0, 1, NO_FLOOR)
    ahead = floor + fall * factor**-power
    return Outlook(
        round(last.n * factor),
        _interval(1 - ahead, weight),
        _interval(level - ahead, weight),
        _interval(1 - floor, weight),
    )


def _smoothed(errors: NDArray[np.float64], tested: int) -> NDArray[np.float64]:
    """Returns the errors with one mistake and one hit more, so that none is sure to the last image."""
    smoothed: NDArray[np.float64] = (errors * tested + 1) / (tested + 2)
    return smoothed


def _interval(values: NDArray[np.float64], weight: NDArray[np.float64]) -> Interval:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    low, middle, high = (float(values[order][np.searchsorted(share, at)]) for at in (0.025, 0.5, 0.975))
    return Interval(middle, low, high)
