"""How much is left to be gained at all, and by what: more labels, better labels, or other features."""

from dataclasses import dataclass

import numpy as np

from penult.pipeline.advising.learning import LearningCurve
from penult.pipeline.reviewing.labels import doubted_labels
from penult.pipeline.training.intervals import Interval, wilson
from penult.pipeline.training.training_rows import Samples

__all__ = ["Room", "room_for_more"]


@dataclass(frozen=True)
class Room:
    """The accuracy on images that the head was fitted on, and on the same images held out.

    Of the held-out mistakes, ``doubted`` are of images whose label is likely wrong: nothing that learns from the
    other images could name those as they are labelled.
    """

    fitted: float
    held_out: Interval
    mistakes: int
    doubted: int
    tested: int

    @property
    def gap(self) -> float:
        """How much better the head is on what it has seen: what it has learned by heart."""
        return max(0.0, self.fitted - self.held_out.value)

    @property
    def most(self) -> float:
        """The share that a perfect classifier would add if every label were right."""
        return self.mistakes / self.tested

    @property
    def least(self) -> float:
        """The share that it would add if every doubted label were wrong."""
        return (self.mistakes - self.doubted) / self.tested


def room_for_more(train: Samples, curve: LearningCurve) -> Room:
    """Counts the mistakes at the end of a learning curve, and the labels among them that are doubted."""
    codes = np.unique(train.labels.astype(str), return_inverse=True)[1]
    held = curve.whole
    told = held.told
    right = held.probabilities[told].argmax(axis=1) == codes[told]
    return Room(
        fitted=curve.fitted,
        held_out=wilson(int(right.sum()), len(right)),
        mistakes=int((~right).sum()),
        doubted=len(doubted_labels(held.probabilities, codes)),
        tested=len(right),
    )
