"""What is measured of a dataset, as the evidence for advice."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from penult.pipeline.advising.imagenet_distance import ImageNetDistance
from penult.pipeline.advising.learning_curve import Extrapolation, LearningCurve
from penult.pipeline.comparing.compare import Compared, Try
from penult.pipeline.comparing.held_out import HeldOutCache
from penult.pipeline.evaluation.intervals import Interval, wilson
from penult.pipeline.reviewing.labels import find_label_issues
from penult.pipeline.samples.rows import Samples
from penult.store import Space, SpaceSpec, Store

__all__ = ["Headroom", "Measured", "Taps", "headroom_of", "taps_of"]

# If twice as many labels gain at least this much accuracy, labelling more images is worthwhile.
WORTHWHILE = 0.01


@dataclass(frozen=True)
class Headroom:
    """The accuracy on the training images when fitted on them, and when each is held out.

    ``doubted`` of the held-out mistakes are images whose label is probably wrong. No classifier that learns from the
    other images could predict these labels.
    """

    fitted: float
    held_out: Interval
    mistakes: int
    doubted: int
    tested: int

    @property
    def gap(self) -> float:
        """How much higher the accuracy is on images that the head was fitted on: the overfitting."""
        return max(0.0, self.fitted - self.held_out.value)

    @property
    def most(self) -> float:
        """The accuracy that a perfect classifier would gain if every label were correct."""
        return self.mistakes / self.tested

    @property
    def least(self) -> float:
        """The accuracy that a perfect classifier would gain if every doubted label were wrong."""
        return (self.mistakes - self.doubted) / self.tested


def headroom_of(cache: HeldOutCache, curve: LearningCurve) -> Headroom:
    """Returns the mistakes at the end of a learning curve, and how many of their labels are doubtful."""
    held = curve.whole
    correct = held.probabilities[held.was_held_out].argmax(axis=1) == cache.codes[held.was_held_out]
    return Headroom(
        fitted=curve.fitted,
        held_out=wilson(int(correct.sum()), len(correct)),
        mistakes=int((~correct).sum()),
        doubted=len(find_label_issues(held.probabilities, cache.codes)),
        tested=len(correct),
    )


@dataclass(frozen=True)
class Taps:
    """A comparison of the stored features, the result of those in use, and the taps that are not extracted yet.

    ``compared`` is None if nothing was compared, and ``used`` if the comparison does not include the features in use.
    """

    compared: Compared | None
    used: Try | None
    extracted: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def better(self) -> Try | None:
        """The best features, if they are significantly better than those in use."""
        return self.compared.best if self.compared and self.used and self.used.is_worse else None


def taps_of(store: Store, spaces: Sequence[Space], train: Samples, compared: Compared | None) -> Taps:
    """Returns which taps of the backbone in use are stored for all training images, and which are missing."""
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


@dataclass(frozen=True)
class Measured:
    """What was measured of one dataset with one choice of features.

    ``extrapolation`` is None if the learning curve has too few points, and ``distance`` if the reference does not fit.
    """

    spaces: tuple[SpaceSpec, ...]
    n_train: int
    n_classes: int
    n_unlabelled: int
    curve: LearningCurve
    extrapolation: Extrapolation | None
    taps: Taps
    distance: ImageNetDistance | None
    headroom: Headroom

    @property
    def features(self) -> str:
        """The features in use, as `train` takes them."""
        return "+".join(spec.name for spec in self.spaces)

    @property
    def has_many(self) -> bool | None:
        """Whether twice as many labels would gain little; None if the curve does not show it."""
        if self.extrapolation is None or not self.extrapolation.is_sure:
            return None
        return self.extrapolation.gain.value < WORTHWHILE

    def to_json(self) -> dict[str, Any]:
        """Returns the measurements as plain data."""
        compared = self.taps.compared
        return {
            "features": self.features,
            "head": self.curve.head,
            "n_train": self.n_train,
            "n_classes": self.n_classes,
            "n_unlabelled": self.n_unlabelled,
            "learning_curve": [asdict(point) for point in self.curve.points],
            "outlook": None if self.extrapolation is None else asdict(self.extrapolation),
            "taps": {
                "extracted": list(self.taps.extracted),
                "missing": list(self.taps.missing),
                "compared": None if compared is None else compared.to_json(),
            },
            "likeness": None if self.distance is None else self.distance.to_json(),
            "room": asdict(self.headroom),
        }
