"""What is left of a head's answers when the unsure ones are held back: how many, and how often they are right."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.training.intervals import Interval, wilson

__all__ = ["Answers", "answers_at"]


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
