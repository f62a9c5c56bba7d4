"""Which class is the most probable, decided alike in Python and in a model's graph."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TIE_STEPS", "ranked"]

# Probabilities that round to the same multiple of 1 / TIE_STEPS are equal. In a forest or among neighbours classes tie
# often, and the last digit of a sum must not decide which of them is the label.
TIE_STEPS = 2**20


def ranked(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
    """Returns the places of the classes along the last axis, the most probable first, ties in the classes' order.

    >>> ranked(np.array([0.2, 0.39999998, 0.4])).tolist()
    [1, 2, 0]
    """
    return np.argsort(-np.round(probabilities * TIE_STEPS), axis=-1, kind="stable")
