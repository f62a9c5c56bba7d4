"""Confidence intervals of shares and areas, and paired significance tests."""

from dataclasses import dataclass
from itertools import combinations
from math import erfc, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Z95",
    "Interval",
    "adjusted_p_values",
    "outranked",
    "paired_difference",
    "paired_p_values",
    "sign_test",
    "wilson",
]


Z95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """A measured value with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def wilson(hits: int, n: int) -> Interval:
    """Returns the share ``hits / n`` with its 95 % Wilson score interval, which is [0, 1] for n = 0.

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
    """Returns the difference of two shares of the same n images, with its 95 % Bonett-Price interval."""
    p, q = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    half = Z95 * sqrt(max(0.0, (p + q - (p - q) ** 2) / (n + 2)))
    return Interval((only_first - only_second) / n, max(-1.0, p - q - half), min(1.0, p - q + half))


def sign_test(only_first: int, only_second: int) -> float:
    """Returns the exact two-sided p-value of McNemar's test, given how many images only one of two heads gets right.

    >>> sign_test(8, 2)
    0.109375
    """
    from scipy.stats import binomtest

    differing = only_first + only_second
    return float(binomtest(only_first, differing).pvalue) if differing else 1.0


def paired_p_values(added: NDArray[np.bool_] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the Holm-adjusted p-values (m, m) of paired tests between m predictions of the same n images.

    ``added`` (m, n) is what each image adds to the figure. Booleans (correct or not) use the exact McNemar test,
    numbers a z-test of the mean difference. The adjustment covers all pairs, since the best is picked after
    looking at all.
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
    return sign_test(int((first & ~second).sum()), int((second & ~first).sum()))


def _z_test(first: NDArray[Any], second: NDArray[Any]) -> float:
    apart = first - second
    error = float(apart.std()) / sqrt(len(apart))
    return erfc(abs(float(apart.mean())) / error / sqrt(2)) if error else 1.0


def adjusted_p_values(p_values: ArrayLike) -> NDArray[np.float64]:
    """Returns p-values adjusted by Holm's method, so that the family-wise error rate at 0.05 is 5 %.

    >>> adjusted_p_values([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, np.float64)
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def outranked(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the share of negatives below each positive, and of positives above each negative; a tie counts half.

    The mean over the positives is the ROC-AUC.

    >>> outranked(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True])).tolist()
    [1.0, 0.75, 0.75, 1.0]
    """
    positives = np.sort(scores[positive])
    shares = np.empty(len(scores))
    shares[positive] = _negatives_below(scores, positives, positive)
    shares[~positive] = 1 - _places(positives, scores[~positive]) / len(positives)
    return shares


def _negatives_below(
    scores: NDArray[np.floating], positives: NDArray[np.floating], positive: NDArray[np.bool_]
) -> NDArray[np.float64]:
    own = scores[positive]
    below: NDArray[np.float64] = _places(np.sort(scores), own) - _places(positives, own)
    return below / (len(scores) - len(positives))


def _places(ordered: NDArray[np.floating], scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns how many of ``ordered`` are below each score, where equal ones count half."""
    places: NDArray[np.float64] = (np.searchsorted(ordered, scores) + np.searchsorted(ordered, scores, "right")) / 2
    return places
