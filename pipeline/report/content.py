"""What a report is made of: plain values that its caller fills, each part but the first few left out at will."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.advising.counsel import Advice
from penult.pipeline.advising.learning_curve import CurvePoint
from penult.pipeline.evaluation.evaluation import Evaluation

PathName = str | PathLike[str]


@dataclass(frozen=True)
class Before:
    """What the original network said of one image in its own classes, as (class, probability) pairs, best first."""

    path: PathName
    guesses: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Baseline:
    """An accuracy that the head's own is to be held against, on the same test images; ``note`` says how it came."""

    name: str
    accuracy: float
    note: str = ""


@dataclass(frozen=True)
class Failure:
    """An image that could not be used, and why."""

    path: PathName
    reason: str


@dataclass(frozen=True)
class Shown:
    """One image of a group, with the label and the split that it stands under."""

    path: PathName
    label: str = ""
    split: str = ""


@dataclass(frozen=True)
class Group:
    """Images that belong together: the same bytes, or nearly the same picture; ``note`` says how near."""

    images: Sequence[Shown]
    note: str = ""


@dataclass(frozen=True)
class Suspect:
    """An image whose label is probably wrong, and the class that its features speak for."""

    path: PathName
    label: str
    suggested: str
    probability: float
    split: str = ""


@dataclass(frozen=True)
class Embedding:
    """Where images lie in two dimensions, by row: ``coordinates`` (n, 2), paths, labels, and the classes predicted."""

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
                expected="as many of each, and two coordinates an image",
            )
        if not np.isfinite(self.coordinates).all():
            raise InputError("some coordinates of the embedding are not finite numbers")


@dataclass(frozen=True)
class Comparison:
    """A table of what was tried: column names, a row of words and numbers per try, and the row that was chosen."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    chosen: int | None = None
    caption: str = ""


@dataclass(frozen=True)
class Insights:
    """What is known of the images and of other choices, beside what the head's own test says; each part at will."""

    leaks: Sequence[Group] = ()
    near_duplicates: Sequence[Group] = ()
    label_errors: Sequence[Suspect] = ()
    learning_curve: Sequence[CurvePoint] = ()
    comparison: Comparison | None = None
    advice: Sequence[Advice] = ()


@dataclass(frozen=True)
class Report:
    """Everything that a report shows. ``paths`` are the test images, row by row as in ``evaluation``."""

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
    failed: Sequence[Failure] = ()
    conflicts: Sequence[Group] = ()
    leaks: Sequence[Group] = ()
    near_duplicates: Sequence[Group] = ()
    label_errors: Sequence[Suspect] = ()
    learning_curve: Sequence[CurvePoint] = ()
    embedding: Embedding | None = None
    comparison: Comparison | None = None
    advice: Sequence[Advice] = ()

    def __post_init__(self) -> None:
        if len(self.paths) != self.evaluation.n:
            raise InputError(
                f"there are {len(self.paths)} paths for {self.evaluation.n} evaluated images",
                expected="the path of each image, in the order of the evaluation's rows",
            )
