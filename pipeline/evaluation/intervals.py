"""How sure a measured share is."""

from dataclasses import dataclass
from itertools import combinations
from math import comb, erfc, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Z95", "Interval", "adjusted_p_values", "paired_difference", "paired_p_values", "two_sided", "wilson"]


Z95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """A measured value and the bounds between which the true one lies 19 times in 20."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def wilson(hits: int, n: int) -> Interval:
    """Returns the share ``hits / n`` with its 95 % Wilson score interval; of nothing, nothing is known: [0, 1].

    >>> str(wilson(95, 100))
    '0.9500 [0.8882, 0.9785]'
    """
    if n == 0:
        return Interval(0.0, 0.0, 1.0)
    share = hits / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def paired_difference(only_first: int, only_second: int, n: int) -> Interval:
    """Returns the difference of two shares measured on the same n things, with its 95 % Bonett-Price interval."""
    p, q = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    half = Z95 * sqrt(max(0.0, (p + q - (p - q) ** 2) / (n + 2)))
    return Interval((only_first - only_second) / n, max(-1.0, p - q - half), min(1.0, p - q + half))


def two_sided(only_first: int, only_second: int) -> float:
    """Returns how often a fair coin splits ``only_first + only_second`` throws at least as unevenly.

    >>> two_sided(8, 2)
    0.109375
    """
    thrown, fewer = only_first + only_second, min(only_first, only_second)
    if thrown <= 1000:
        return min(1.0, 2 * sum(comb(thrown, k) for k in range(fewer + 1)) / (1 << thrown))
    from scipy.stats import binom

    return min(1.0, 2 * float(binom.cdf(fewer, thrown, 0.5)))


def paired_p_values(added: NDArray[np.bool_] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the p-values (m, m) of paired tests between tries (m, n) on the same images, Holm-adjusted.

    Of hits and misses (bool) they are exact McNemar tests; of what each image adds to another mean, z-tests of the
    mean difference. The adjustment is for all pairs, since the best try is known only once all were looked at.
    """
    m = len(added)
    table = np.ones((m, m))
    pairs = list(combinations(range(m), 2))
    if not pairs:
        return table
    test = _mcnemar if added.dtype == np.bool_ else _z_test
    raw = [test(added[i], added[j]) for i, j in pairs]
    for (i, j), p in zip(pairs, adjusted_p_values(raw), strict=True):
        table[i, j] = table[j, i] = p
    return table


def _mcnemar(first: NDArray[Any], second: NDArray[Any]) -> float:
    return two_sided(int((first & ~second).sum()), int((second & ~first).sum()))


def _z_test(first: NDArray[Any], second: NDArray[Any]) -> float:
    apart = first - second
    error = float(apart.std()) / sqrt(len(apart))
    return erfc(abs(float(apart.mean())) / error / sqrt(2)) if error else 1.0


def adjusted_p_values(p_values: ArrayLike) -> NDArray[np.float64]:
    """Returns p-values adjusted by Holm's method, so that all of them together err one time in twenty at 0.05.

    >>> adjusted_p_values([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, np.float64)
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
