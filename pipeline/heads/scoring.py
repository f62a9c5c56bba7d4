"""What an estimator says of rows, computed in float64 a block at a time, so that every way to ask agrees."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import HeadError, PenultError
from penult.pipeline.heads.head import Head, SpaceRef

__all__ = ["features_of", "probabilities_of", "said_of"]


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


def features_of(matrices: Mapping[str, NDArray[np.floating]], spaces: Sequence[SpaceRef]) -> NDArray[np.float32]:
    """Returns the matrices of the taps side by side (N, D) in the order of ``spaces``, each rounded as it is stored.

    A value that float16 cannot hold becomes infinite; `extract` refuses such an image.
    """
    with np.errstate(over="ignore"):
        parts = [matrices[space.tap].astype(space.dtype).astype(np.float32) for space in spaces]
    return np.concatenate(parts, axis=1)


def probabilities_of(head: Head, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the probabilities (N, C) that the head gives, computed in float64; of a number, the numbers (N, 1)."""
    if head.card.task == "regression":
        return head.predict(features)[:, None]
    return np.asarray(head.predict_proba(features), np.float64)
