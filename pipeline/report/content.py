"""The content of a report as plain values. Most parts are optional."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.advising.advice import Advice
from penult.pipeline.advising.learning_curve import CurvePoint
from penult.pipeline.evaluation.evaluation import Evaluation

PathName = str | PathLike[str]


@dataclass(frozen=True)
class Before:
    """The predictions of the original network for one image: (class, probability) pairs, the best first."""

    path: PathName
    guesses: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Baseline:
    """An accuracy to compare the head with, on the same test images; ``note`` explains it."""

    name: str
    accuracy: float
    note: str = ""


@dataclass(frozen=True)
class FailedImage:
    """An image that could not be used, and why."""

    path: PathName
    reason: str


@dataclass(frozen=True)
class GroupImage:
    """One image of a group, with its label and split."""

    path: PathName
    label: str = ""
    split: str = ""


@dataclass(frozen=True)
class ImageGroup:
    """Images that are the same file or nearly the same picture; ``note`` says how similar they are."""

    images: Sequence[GroupImage]
    note: str = ""


@dataclass(frozen=True)
class DoubtfulLabel:
    """An image whose label is probably wrong, and the class that its features suggest."""

    path: PathName
    label: str
    suggested: str
    probability: float
    split: str = ""


@dataclass(frozen=True)
class Embedding:
    """Positions of images in two dimensions: ``coordinates`` (n, 2), paths, labels, and predicted classes by row."""

    coordinates: NDArray[np.floating[Any]]
    paths: Sequence[PathName]
    labels: Sequence[str]
    predicted: Sequence[str] | None = None
    method: str = "PCA"

    def __post_init__(self) -> None:
        n = len(self.paths)
        shapes = (np.shape(self.coordinates), len(self.labels), n if self.predicted is None else len(self.predicted))
        if shapes != ((n, 2), n, n):
            raise InputError(
                f"the embedding has {n} paths, coordinates of the shape {shapes[0]}, {shapes[1]} labels and "
                f"{shapes[2]} predictions",
                expected="the same number of each, and two coordinates per image",
            )
        if not np.isfinite(self.coordinates).all():
            raise InputError("some coordinates of the embedding are not finite numbers")


@dataclass(frozen=True)
class ComparisonTable:
    """A table of features and heads: column names, one row per try, and the number of the chosen row."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    chosen: int | None = None
    caption: str = ""


@dataclass(frozen=True)
class Insights:
    """What `review`, `advise` and `compare` found, in addition to the test of the head. Each part is optional."""

    leaks: Sequence[ImageGroup] = ()
    near_duplicates: Sequence[ImageGroup] = ()
    label_errors: Sequence[DoubtfulLabel] = ()
    learning_curve: Sequence[CurvePoint] = ()
    comparison: ComparisonTable | None = None
    advice: Sequence[Advice] = ()


@dataclass(frozen=True)
class ReportContent:
    """Everything that a report shows. ``paths`` are the test images, in the order of ``evaluation``."""

    title: str
    evaluation: Evaluation
    paths: Sequence[PathName]
    head: Mapping[str, object] = field(default_factory=dict)
    command: str = ""
    baselines: Sequence[Baseline] = ()
    before: Sequence[Before] = ()
    receipt: Mapping[str, object] = field(default_factory=dict)
    backbone: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()
    failed: Sequence[FailedImage] = ()
    conflicts: Sequence[ImageGroup] = ()
    embedding: Embedding | None = None
    insights: Insights = field(default_factory=Insights)

    def __post_init__(self) -> None:
        if len(self.paths) != self.evaluation.n:
            raise InputError(
                f"there are {len(self.paths)} paths for {self.evaluation.n} evaluated images",
                expected="one path per image, in the order of the evaluation",
            )
