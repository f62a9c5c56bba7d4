"""What was measured of a dataset before any advice is given."""

from dataclasses import asdict, dataclass
from typing import Any

from penult.pipeline.advising.learning import LearningCurve
from penult.pipeline.advising.likeness import Likeness
from penult.pipeline.advising.outlook import Outlook
from penult.pipeline.advising.room import Room
from penult.pipeline.advising.taps import Taps
from penult.store import SpaceSpec

__all__ = ["Measured"]

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
