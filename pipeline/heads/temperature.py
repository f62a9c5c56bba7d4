"""How sharply scores become probabilities, chosen on rows that the scores were not fitted to."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["choose_temperature", "mean_log_loss"]

MOST_ROWS = 20_000
ROUNDS = 60


def mean_log_loss(scores: NDArray[np.floating], codes: NDArray[np.intp]) -> float:
    """Returns the mean negative log of the softmax of ``scores`` (n, C) at the true class."""
    highest = scores.max(axis=1)
    mass = np.exp(scores - highest[:, None]).sum(axis=1, dtype=np.float64)
    return float(np.mean(np.log(mass) + highest - scores[np.arange(len(codes)), codes]))


def choose_temperature(scores: NDArray[np.floating], codes: NDArray[np.intp]) -> tuple[float, float]:
    """Returns the factor t >= 0 for which softmax(t * scores) has the least log-loss, and that loss.

    The loss is convex in t, so a bracketed Newton iteration on its slope finds it; 20,000 rows settle it.
    """
    step = -(-len(codes) // MOST_ROWS)
    part, true = scores[::step].astype(np.float64), codes[::step]
    own = part[np.arange(len(true)), true]
    part = part - part.max(axis=1, keepdims=True)
    own = own - scores[::step].max(axis=1)
    unit = max(float(np.sqrt(np.mean(part**2))), 1e-12)
    low, high, factor = 0.0, 1e4 / unit, 1 / unit
    for _ in range(ROUNDS):
        chances = np.exp(factor * part)
        chances /= chances.sum(axis=1, keepdims=True)
        mean = (chances * part).sum(axis=1)
        slope = float(np.mean(mean - own))
        bend = float(np.mean((chances * part**2).sum(axis=1) - mean**2))
        low, high = (factor, high) if slope < 0 else (low, factor)
        newton = factor - slope / bend if bend > 0 else -1.0
        following = newton if low < newton < high else (low + high) / 2
        if abs(following - factor) < 1e-6 * factor:
            break
        factor = following
    return factor, mean_log_loss(factor * scores, codes)
