"""The 95 % intervals of an evaluation's figures, each by the method that suits it."""

from math import exp, log, sqrt

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.evaluation.evaluation import SMALLEST_PROBABILITY, Evaluation
from penult.pipeline.evaluation.intervals import Z95, Interval, outranked, wilson

__all__ = ["balanced_accuracy_of", "bounds_of", "log_loss_of", "losses_of", "plain_bounds"]


RESAMPLES = 1000
QUANTILES = (0.025, 0.975)


def bounds_of(evaluation: Evaluation) -> dict[str, Interval]:
    """Returns the figures by name with their 95 % intervals; the ROC-AUC only where it is defined."""
    area = _roc_auc(evaluation)
    return {
        "balanced_accuracy": balanced_accuracy_of(evaluation),
        "macro_f1": _macro_f1(evaluation),
        "log_loss": log_loss_of(evaluation),
        **({} if area is None else {"roc_auc": area}),
        "calibration_error": _calibration_error(evaluation),
    }


def plain_bounds(evaluation: Evaluation) -> dict[str, float]:
    """Returns the bounds as plain values, named after the figures of ``Evaluation.summary``: ``macro_f1_low`` etc."""
    known = bounds_of(evaluation).items()
    return {f"{name}_{end}": getattr(figure, end) for name, figure in known for end in ("low", "high")}


def balanced_accuracy_of(evaluation: Evaluation) -> Interval:
    """Returns the mean recall of the classes with its interval.

    Two hits and two misses (Agresti and Coull) are spread over the classes, so that the interval of a perfect mean has
    a width. Adding them to every class would bias the mean of many classes.
    """
    counts = np.array([score.support for score in evaluation.per_class if score.support], np.float64)
    hits = np.array([score.recall.value for score in evaluation.per_class if score.support]) * counts
    more = 2 / len(counts)
    shares = (hits + more) / (counts + 2 * more)
    half = Z95 * float(np.sqrt((shares * (1 - shares) / (counts + 2 * more)).sum())) / len(counts)
    return _around(evaluation.balanced_accuracy, float(shares.mean()) - half, float(shares.mean()) + half)


def losses_of(evaluation: Evaluation) -> NDArray[np.float64]:
    """Returns the log-loss of each image (n)."""
    true = evaluation.probabilities[np.arange(evaluation.n), evaluation.labels].astype(np.float64)
    losses: NDArray[np.float64] = -np.log(np.clip(true, SMALLEST_PROBABILITY, 1.0))
    return losses


def log_loss_of(evaluation: Evaluation) -> Interval:
    """Returns the log-loss with the interval of a mean."""
    losses = losses_of(evaluation)
    mean, half = float(losses.mean()), Z95 * float(losses.std()) / sqrt(len(losses))
    return Interval(mean, max(0.0, mean - half), mean + half)


def _macro_f1(evaluation: Evaluation) -> Interval:
    """Bootstraps the images by drawing the counts of the confusion matrix."""
    true, predicted = np.nonzero(evaluation.confusion)
    share = evaluation.confusion[true, predicted] / evaluation.n
    draws = max(100, min(RESAMPLES, 4_000_000 // (len(share) + len(evaluation.classes))))
    drawn = np.random.default_rng(0).multinomial(evaluation.n, share, draws).astype(np.float64)
    is_correct = true == predicted
    twice_correct, involved = (np.zeros((draws, len(evaluation.classes))) for _ in range(2))
    twice_correct[:, true[is_correct]] = 2 * drawn[:, is_correct]
    for side in (true, predicted):
        order = np.argsort(side, kind="stable")
        names, starts = np.unique(side[order], return_index=True)
        involved[:, names] += np.add.reduceat(drawn[:, order], starts, axis=1)
    scores = np.divide(twice_correct, involved, out=np.full_like(involved, np.nan), where=involved > 0)
    low, high = np.quantile(np.nanmean(scores, axis=1), QUANTILES)
    # Resamples of a perfect test are perfect too. Then the bound of the accuracy is used.
    ceiling = evaluation.accuracy.low if is_correct.all() else 1.0
    return _around(evaluation.macro_f1, min(float(low), ceiling), float(high))


def _roc_auc(evaluation: Evaluation) -> Interval | None:
    """Sums the effect of each image on the mean area (DeLong et al., 1988), on the scale of log odds."""
    area, classes = evaluation.roc_auc, len(evaluation.classes)
    if area is None:
        return None
    effect = np.zeros(evaluation.n)
    for code in range(classes):
        effect += _effects(evaluation.probabilities[:, code], evaluation.labels == code) / classes
    error = float(np.sqrt((effect**2).sum()))
    if not 0 < area < 1 or not error:
        # All pairs are ranked correctly, so the bound is that of the smallest class without a mistake.
        fewest = int(min(evaluation.confusion.sum(axis=1).min(), evaluation.n - evaluation.confusion.sum(axis=1).max()))
        sure = wilson(fewest, fewest)
        return _around(area, sure.low, sure.high)
    half = Z95 * error / (area * (1 - area))
    low, high = (1 / (1 + exp(-(log(area / (1 - area)) + side * half))) for side in (-1, 1))
    return _around(area, low, high)


def _effects(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the effect of each image on the area of one class."""
    shares, m = outranked(scores, positive), int(positive.sum())
    effects: NDArray[np.float64] = (shares - shares[positive].mean()) / np.where(positive, m, len(scores) - m)
    return effects


def _calibration_error(evaluation: Evaluation) -> Interval:
    """Bootstraps the gaps of the bins after subtracting the noise that makes each gap look larger.

    The lower bound removes the bias that noise alone explains; the upper bound keeps the measured gap.
    """
    bins, value = evaluation.reliability, evaluation.calibration_error
    counts = np.array([part.count for part in bins], np.float64)
    gaps = np.array([part.confidence - part.accuracy for part in bins])
    # One correct and one wrong answer are added, so that every bin has a variance.
    shares = (np.array([part.accuracy for part in bins]) * counts + 1) / (counts + 2)
    noise = np.sqrt(shares * (1 - shares) / counts)
    left = np.sign(gaps) * np.sqrt(np.maximum(gaps**2 - noise**2, 0))
    drawn = np.abs(np.random.default_rng(0).normal(left, noise, (RESAMPLES, len(bins)))) @ counts / evaluation.n
    chance = float(np.quantile(drawn, QUANTILES[1])) - float(np.abs(left) @ counts) / evaluation.n
    return _around(value, value - chance, value + Z95 * float(drawn.std()))


def _around(value: float, low: float, high: float) -> Interval:
    """Returns an interval within [0, 1] that contains its value."""
    return Interval(value, max(0.0, min(value, low)), min(1.0, max(value, high)))
