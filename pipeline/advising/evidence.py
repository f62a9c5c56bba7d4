"""What was measured of a dataset before any advice is given."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from penult.pipeline.advising.learning_curve import LearningCurve, Outlook
from penult.pipeline.advising.likeness import Likeness
from penult.pipeline.comparing.compare import Compared, Try
from penult.pipeline.evaluation.intervals import Interval, wilson
from penult.pipeline.reviewing.labels import doubted_labels
from penult.pipeline.samples.rows import Samples
from penult.store import Space, SpaceSpec, Store

__all__ = ["Measured", "Room", "Taps", "room_for_more", "taps_of"]


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
    told = held.was_held_out
    right = held.probabilities[told].argmax(axis=1) == codes[told]
    return Room(
        fitted=curve.fitted,
        held_out=wilson(int(right.sum()), len(right)),
        mistakes=int((~right).sum()),
        doubted=len(doubted_labels(held.probabilities, codes)),
        tested=len(right),
    )


@dataclass(frozen=True)
class Taps:
    """What a comparison of the features in the store says of those in use, and the taps that are not extracted.

    ``compared`` is None where nothing was compared, and ``used`` where the features in use are not among what was.
    """

    compared: Compared | None
    used: Try | None
    extracted: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def better(self) -> Try | None:
        """The best features, if they are really better than those in use."""
        return self.compared.best if self.compared and self.used and self.used.is_worse else None


def taps_of(store: Store, spaces: Sequence[Space], train: Samples, compared: Compared | None) -> Taps:
    """Sorts the taps of the backbone in use into those that the store has for all training images, and the rest."""
    name = "+".join(space.spec.name for space in spaces)
    used = next((one for one in compared.tries if one.features == name), None) if compared else None
    spec = spaces[0].spec
    whole = {
        space.spec.tap
        for space in store.spaces()
        if (space.spec.fingerprint, space.spec.view) == (spec.fingerprint, "identity")
        and not len(space.missing(train.keys))
    }
    known = [str(tap["name"]) for tap in spec.card.get("taps", ())]
    return Taps(
        compared,
        used,
        tuple(tap for tap in known if tap in whole) or tuple(sorted(whole)),
        tuple(tap for tap in known if tap not in whole),
    )


WORTHWHILE = 0.01
"""A gain from twice as many labels that makes it worth while to label more."""


@dataclass(frozen=True)
class Measured:
    """The figures of one dataset and one choice of features.

    ``outlook`` is None where the learning curve has too few points, ``likeness`` where nothing honest can be said.
    """

    spaces: tuple[SpaceSpec, ...]
    n_train: int
    n_classes: int
    n_unlabelled: int
    curve: LearningCurve
    outlook: Outlook | None
    taps: Taps
    likeness: Likeness | None
    room: Room

    @property
    def features(self) -> str:
        """The features in use, in the words that `train` takes."""
        return "+".join(spec.name for spec in self.spaces)

    @property
    def has_many(self) -> bool | None:
        """Whether twice as many labels would bring little; None where the curve does not tell."""
        if self.outlook is None or not self.outlook.is_sure:
            return None
        return self.outlook.gain.value < WORTHWHILE

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as plain data."""
        compared = self.taps.compared
        return {
            "features": self.features,
            "head": self.curve.head,
            "n_train": self.n_train,
            "n_classes": self.n_classes,
            "n_unlabelled": self.n_unlabelled,
            "learning_curve": [asdict(point) for point in self.curve.points],
            "outlook": None if self.outlook is None else asdict(self.outlook),
            "taps": {
                "extracted": list(self.taps.extracted),
                "missing": list(self.taps.missing),
                "compared": None if compared is None else compared.to_json(),
            },
            "likeness": None if self.likeness is None else self.likeness.to_json(),
            "room": asdict(self.room),
        }
