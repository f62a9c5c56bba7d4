"""How well scores rank the images of one class before all others."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["area_under", "outranked"]


def area_under(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Returns the chance that a positive outranks a negative, ties counting half (Mann-Whitney).

    >>> area_under(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True]))
    0.875
    """
    return float(_negatives_below(scores, np.sort(scores[positive]), positive).mean())


def outranked(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns of each positive the share of negatives that it outranks, and of each negative that of positives above.

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
    """Returns how many of ``ordered`` lie below each score, those that equal it counting half."""
    places: NDArray[np.float64] = (np.searchsorted(ordered, scores) + np.searchsorted(ordered, scores, "right")) / 2
    return places
