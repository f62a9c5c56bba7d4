"""Abstention: the probability from which on the share of correct answers is as high as was asked for."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.evaluation.intervals import Interval, wilson

__all__ = ["Abstention", "Answers", "answers_at", "check_wanted", "choose_abstention"]


@dataclass(frozen=True)
class Answers:
    """The share of ``n`` images that is answered, and the share of correct answers, each with its interval."""

    n: int
    answered: Interval
    right: Interval

    def summary(self) -> dict[str, float]:
        """Returns the figures as plain values."""
        return {
            "answered": self.answered.value,
            "answered_right": self.right.value,
            "answered_right_low": self.right.low,
            "answered_right_high": self.right.high,
        }


def answers_at(confidence: NDArray[np.floating], is_right: NDArray[np.bool_], min_confidence: float) -> Answers:
    """Counts the answers where the probability of the best class is at least ``min_confidence``."""
    is_answered = confidence >= min_confidence
    given = int(is_answered.sum())
    return Answers(len(is_right), wilson(given, len(is_right)), wilson(int((is_right & is_answered).sum()), given))


@dataclass(frozen=True)
class Abstention:
    """The accuracy that was asked for, the probability that reaches it, and the result on held-out images."""

    wanted: float
    min_confidence: float
    held_out: Answers

    @property
    def sentence(self) -> str:
        """The choice in one sentence."""
        held = self.held_out
        if not self.min_confidence:
            return (
                f"No image is left unanswered: {held.right.value:.1%} of {held.n:,} held-out training images are "
                f"predicted correctly, and {self.wanted:.1%} was asked for."
            )
        return (
            f"To reach {self.wanted:.1%} correct answers, images whose best class has a probability below "
            f"{self.min_confidence:.3f} are reported as unsure: {held.answered.value:.1%} of {held.n:,} held-out "
            f"training images are answered, and {held.right.value:.1%} of the answers are correct."
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the choice as plain data."""
        return {
            "wanted": self.wanted,
            "min_confidence": self.min_confidence,
            "held_out": {"n": self.held_out.n, **self.held_out.summary()},
        }


def check_wanted(wanted: float | None) -> None:
    """Raises where the accuracy is not a share."""
    if wanted is not None and not 0 < wanted < 1:
        raise InputError(f"the accuracy asked for is {wanted}", expected="a share between 0 and 1, such as 0.98")


def choose_abstention(probabilities: NDArray[np.floating], codes: NDArray[np.intp], wanted: float) -> Abstention:
    """Finds the lowest probability from which on the share ``wanted`` of the answers is correct.

    ``probabilities`` (n, C) come from heads that were not fitted on the row. The best of many thresholds looks slightly
    too good, so one extra mistake is counted: (mistakes + 1) / (answers + 1) may be wrong at most.
    """
    check_wanted(wanted)
    confidence = probabilities.max(axis=1).astype(np.float64)
    is_right = probabilities.argmax(axis=1) == codes
    order = np.argsort(-confidence, kind="stable")
    sure, right = confidence[order], np.cumsum(is_right[order])
    answers = np.arange(1, len(order) + 1)
    kept = right / (answers + 1)
    # Images with equal probabilities are answered together or not at all.
    is_end = np.append(sure[1:] < sure[:-1], True)
    enough = np.flatnonzero(is_end & (kept >= wanted))
    if not len(enough):
        best = int(np.where(is_end, kept, -1).argmax())
        raise InputError(
            f"no probability is high enough for {wanted:.1%} correct answers: of the {best + 1:,} most confident of "
            f"{len(order):,} held-out training images, {int(right[best]):,} are predicted correctly",
            expected=f"at most {np.floor(1000 * kept[best]) / 1000:.1%}, with so many mistakes and images",
            remedy="ask for less, look for wrong labels with 'penult review', or label more images",
        )
    last = int(enough[-1])
    # Half way to the next probability, so that rounding moves no image across.
    floor = 0.0 if last == len(order) - 1 else float((sure[last] + sure[last + 1]) / 2)
    return Abstention(wanted, floor, answers_at(confidence, is_right, floor))
