"""By which figure tries are ranked, with its interval and what of it each image carries."""

from math import sqrt
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.evaluation.bounds import balanced_accuracy_of, log_loss_of, losses_of
from penult.pipeline.evaluation.evaluation import Evaluation
from penult.pipeline.evaluation.intervals import Z95, Interval

__all__ = ["Measure", "credits_of", "figure_of", "lead_of", "measure_for", "told"]

Measure = Literal["accuracy", "balanced_accuracy", "log_loss"]


def measure_for(by: Measure | None, class_weight: str | None) -> Measure:
    """Returns ``by``, or where nothing was said the accuracy, with balanced class weights the mean over classes."""
    if by is None:
        return "accuracy" if class_weight is None else "balanced_accuracy"
    if by not in get_args(Measure):
        raise InputError(f"tries cannot be ranked by {by!r}", expected=f"one of {', '.join(get_args(Measure))}")
    return by


def credits_of(evaluation: Evaluation, measure: Measure) -> NDArray[np.float64]:
    """Returns what each image adds to the figure, (n), more being better; the mean is the figure itself.

    Of the log-loss it is what is lost, with a minus.
    """
    if measure == "log_loss":
        return -losses_of(evaluation)
    is_right: NDArray[np.float64] = (evaluation.predicted == evaluation.labels).astype(np.float64)
    if measure == "accuracy":
        return is_right
    counts = np.bincount(evaluation.labels)
    weighted: NDArray[np.float64] = is_right * evaluation.n / (np.count_nonzero(counts) * counts[evaluation.labels])
    return weighted


def figure_of(evaluation: Evaluation, measure: Measure) -> Interval:
    """Returns the figure with its 95 % interval."""
    if measure == "accuracy":
        return evaluation.accuracy
    return log_loss_of(evaluation) if measure == "log_loss" else balanced_accuracy_of(evaluation)


def lead_of(first: Evaluation, second: Evaluation, measure: Measure) -> Interval:
    """Returns how much more the first has than the second on the same images, with its 95 % interval."""
    more = credits_of(first, measure) - credits_of(second, measure)
    mean, half = float(more.mean()), Z95 * float(more.std()) / sqrt(len(more))
    return Interval(mean, mean - half, mean + half)


def told(value: float, measure: Measure) -> str:
    """Returns a figure as it is read: shares in per cent.

    >>> told(0.925, "accuracy"), told(0.925, "log_loss")
    ('92.5%', '0.925')
    """
    return f"{value:.3f}" if measure == "log_loss" else f"{value:.1%}"
