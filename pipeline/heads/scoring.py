"""Predictions in float64, block by block, so that all callers get equal results."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import HeadError, PenultError

__all__ = ["mean_over_views", "predict_in_blocks"]


ROWS = 8192
"""Rows that are converted to float64 at a time; converting a large test split at once would take too much memory."""


def predict_in_blocks(
    predict: Callable[[NDArray[np.float64]], Any], features: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Returns the output of ``predict``, for example ``estimator.predict_proba``, for rows (n, D) with n >= 1.

    In float32, some estimators (naive Bayes most of all) lose up to four of their seven digits.
    """
    try:
        parts = [
            np.asarray(predict(features[start : start + ROWS].astype(np.float64)), np.float64)
            for start in range(0, len(features), ROWS)
        ]
    except ValueError as error:
        if isinstance(error, PenultError):
            raise
        raise HeadError(f"the estimator cannot predict these rows: {error}") from error
    return np.concatenate(parts)


def mean_over_views(outputs: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """Returns the mean of the outputs of all views."""
    return outputs[0] if len(outputs) == 1 else np.mean(outputs, axis=0)
