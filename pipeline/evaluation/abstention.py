"""When a head should rather say nothing: from which probability on its answers are right as often as is asked."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.evaluation.intervals import Interval, wilson

__all__ = ["Abstention", "Answers", "answers_at", "check_wanted", "choose_abstention"]


@dataclass(frozen=True)
class Answers:
    """Of ``n`` images the share that is answered, and of these the share that is right, each with its interval."""

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
    """Returns what is answered where the probability of the best class is at least ``min_confidence``."""
    is_answered = confidence >= min_confidence
    given = int(is_answered.sum())
    return Answers(len(is_right), wilson(given, len(is_right)), wilson(int((is_right & is_answered).sum()), given))


@dataclass(frozen=True)
class Abstention:
    """The accuracy that was asked of a head's answers, the probability that it takes, and what held-out images show."""

    wanted: float
    min_confidence: float
    held_out: Answers

    @property
    def sentence(self) -> str:
        """What was chosen, in one sentence."""
        held = self.held_out
        if not self.min_confidence:
            return (
                f"All answers may stand: of {held.n:,} held-out training images {held.right.value:.1%} are told "
                f"rightly, and {self.wanted:.1%} was asked."
            )
        return (
            f"For {self.wanted:.1%} of the answers to be right, images whose best class is less probable than "
            f"{self.min_confidence:.3f} are called unsure: of {held.n:,} held-out training images "
            f"{held.answered.value:.1%} are answered, and {held.right.value:.1%} of these rightly."
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the choice as plain data."""
        return {
            "wanted": self.wanted,
            "min_confidence": self.min_confidence,
            "held_out": {"n": self.held_out.n, **self.held_out.summary()},
        }


def check_wanted(wanted: float | None) -> None:
    """Refuses what no share of answers can be."""
    if wanted is not None and not 0 < wanted < 1:
        raise InputError(f"the accuracy asked for is {wanted}", expected="a share between 0 and 1, such as 0.98")


def choose_abstention(chances: NDArray[np.floating], codes: NDArray[np.intp], wanted: float) -> Abstention:
    """Finds the lowest probability from which on the share ``wanted`` of the answers is right.

    ``chances`` (n, C) come from heads that did not see the row. Since the best of many thresholds looks a little too
    good, one mistake more than there was is counted: (mistakes + 1) / (answers + 1) is at most what may be wrong.
    """
    check_wanted(wanted)
    confidence = chances.max(axis=1).astype(np.float64)
    is_right = chances.argmax(axis=1) == codes
    order = np.argsort(-confidence, kind="stable")
    sure, right = confidence[order], np.cumsum(is_right[order])
    answers = np.arange(1, len(order) + 1)
    kept = right / (answers + 1)
    # Images of one probability are answered together or not at all.
    is_end = np.append(sure[1:] < sure[:-1], True)
    enough = np.flatnonzero(is_end & (kept >= wanted))
    if not len(enough):
        best = int(np.where(is_end, kept, -1).argmax())
        raise InputError(
            f"no probability is high enough for {wanted:.1%} of the answers to be right: of the {best + 1:,} surest of "
            f"{len(order):,} held-out training images {int(right[best]):,} are told rightly",
            expected=f"{np.floor(1000 * kept[best]) / 1000:.1%} at most, which so few mistakes and images can show",
            remedy="ask for less, look for wrong labels with 'penult review', or label more images",
        )
    last = int(enough[-1])
    # Half way to the next, so that no rounding turns an image of this side into one of the other.
    floor = 0.0 if last == len(order) - 1 else float((sure[last] + sure[last + 1]) / 2)
    return Abstention(wanted, floor, answers_at(confidence, is_right, floor))
