"""What an estimator says of rows, computed in float64 a block at a time, so that every way to ask agrees."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import HeadError, PenultError

__all__ = ["mean_over_views", "said_of"]


ROWS = 8192
"""Rows that are widened at a time: all at once a large test split would take eight bytes for each of two."""


def said_of(ask: Callable[[NDArray[np.float64]], Any], features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns what ``ask``, as ``estimator.predict_proba``, gives for the rows (n, D), n at least 1.

    In float32 some estimators (naive Bayes, above all) lose up to four of their seven digits.
    """
    try:
        parts = [
            np.asarray(ask(features[start : start + ROWS].astype(np.float64)), np.float64)
            for start in range(0, len(features), ROWS)
        ]
    except ValueError as error:
        if isinstance(error, PenultError):
            raise
        raise HeadError(f"the estimator refused the rows that it was asked of: {error}") from error
    return np.concatenate(parts)


def mean_over_views(chances: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """Returns the mean of what was said of each view."""
    return chances[0] if len(chances) == 1 else np.mean(chances, axis=0)
