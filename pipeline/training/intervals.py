"""How sure a measured share is."""

from dataclasses import dataclass
from math import comb, sqrt

__all__ = ["Z95", "Interval", "paired_difference", "two_sided", "wilson"]

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
