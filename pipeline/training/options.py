"""What training is asked to do, and the data that one training run works on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penult.pipeline.heads.names import Task
from penult.pipeline.samples.rows import TrainingRows
from penult.pipeline.samples.targets import LABEL
from penult.store import Space, Store
from penult.store.catalog.datasets import Dataset

__all__ = ["TrainOptions", "TrainingRun"]


@dataclass(frozen=True)
class TrainOptions:
    """How `train` fits a head.

    Attributes:
        version: the version of the dataset; the newest by default.
        params: parameters of the head that are fixed instead of searched.
        class_weight: ``"balanced"`` gives the images of a rare class as much weight as those of a frequent one.
        seed: makes every random choice repeatable.
        start_from: a logistic head of the store on the same spaces and classes. Its C is kept, and the fit starts at
            its coefficients. This takes a fraction of a second where few labels have changed.
        target: the column to predict: classes, a number, or several columns of true and false (tags).
        task: what the target holds, where a column can be read in two ways.
        views: train on these views of each image, each from its own space.
        average_views: predict each test image by the mean over its views.
        min_accuracy: the share of answers that must be correct. The head leaves an image unanswered where its best
            class is less probable than held-out training images show to be necessary.
    """

    version: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    class_weight: str | None = None
    seed: int = 0
    start_from: str | None = None
    target: str = LABEL
    task: Task | None = None
    views: tuple[str, ...] = ()
    average_views: bool = False
    min_accuracy: float | None = None


@dataclass(frozen=True)
class TrainingRun:
    """A version of a dataset in a store, its rows, the spaces with their features, and the options."""

    store: Store
    dataset: Dataset
    spaces: Sequence[Space]
    rows: TrainingRows
    options: TrainOptions

    @property
    def width(self) -> int:
        """The number of features per image."""
        return sum(space.spec.width for space in self.spaces)
