"""The figure by which heads are ranked, its interval, and the contribution of each image."""

from math import sqrt
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.evaluation.bounds import balanced_accuracy_of, log_loss_of, losses_of
from penult.pipeline.evaluation.evaluation import Evaluation
from penult.pipeline.evaluation.intervals import Z95, Interval, paired_difference

__all__ = ["Measure", "contributions_of", "figure_of", "format_measure", "lead_of", "measure_for"]

Measure = Literal["accuracy", "balanced_accuracy", "log_loss"]


def measure_for(by: Measure | None, class_weight: str | None) -> Measure:
    """Returns ``by``, or else the accuracy, which is balanced where the class weights are."""
    if by is None:
        return "accuracy" if class_weight is None else "balanced_accuracy"
    if by not in get_args(Measure):
        raise InputError(f"heads cannot be ranked by {by!r}", expected=f"one of {', '.join(get_args(Measure))}")
    return by


def contributions_of(evaluation: Evaluation, measure: Measure) -> NDArray[np.float64]:
    """Returns the contribution of each image (n) to the figure, where larger is better and the mean is the figure.

    The log-loss is negated.
    """
    if measure == "log_loss":
        return -losses_of(evaluation)
    is_correct: NDArray[np.float64] = (evaluation.predicted == evaluation.labels).astype(np.float64)
    if measure == "accuracy":
        return is_correct
    counts = np.bincount(evaluation.labels)
    weighted: NDArray[np.float64] = is_correct * evaluation.n / (np.count_nonzero(counts) * counts[evaluation.labels])
    return weighted


def figure_of(evaluation: Evaluation, measure: Measure) -> Interval:
    """Returns the figure with its 95 % interval."""
    if measure == "accuracy":
        return evaluation.accuracy
    return log_loss_of(evaluation) if measure == "log_loss" else balanced_accuracy_of(evaluation)


def lead_of(first: Evaluation, second: Evaluation, measure: Measure) -> Interval:
    """Returns by how much the first is better than the second on the same images, with its 95 % interval."""
    if measure == "accuracy":
        a, b = (one.predicted == one.labels for one in (first, second))
        return paired_difference(int((a & ~b).sum()), int((b & ~a).sum()), first.n)
    more = contributions_of(first, measure) - contributions_of(second, measure)
    mean, half = float(more.mean()), Z95 * float(more.std()) / sqrt(len(more))
    return Interval(mean, mean - half, mean + half)


def format_measure(value: float, measure: Measure) -> str:
    """Formats a figure: shares in per cent.

    >>> format_measure(0.925, "accuracy"), format_measure(0.925, "log_loss")
    ('92.5%', '0.925')
    """
    return f"{value:.3f}" if measure == "log_loss" else f"{value:.1%}"
