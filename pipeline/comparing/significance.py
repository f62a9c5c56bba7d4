"""Which of many tries are really apart, although so many pairs were looked at."""

from itertools import combinations
from math import erfc, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penult.pipeline.training.intervals import two_sided

__all__ = ["adjusted_p_values", "paired_p_values"]


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
