"""What training is asked for, and the data that one training run uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from penult.pipeline.heads.names import Task
from penult.pipeline.samples.rows import TrainingRows
from penult.pipeline.samples.targets import LABEL
from penult.pipeline.samples.value_rows import ValueRows
from penult.store import Space, Store
from penult.store.catalog.datasets import Dataset

__all__ = ["Material", "TrainOptions"]


@dataclass(frozen=True)
class TrainOptions:
    """What `train` may be told besides what to train: a dataset's version, a head's parameters, and the seed.

    ``start_from`` names a logistic head of the store on the same spaces and classes: its C is kept and its
    coefficients are where the descent begins, which takes a fraction of a second where few labels have changed.
    ``target`` is the column of the classes, and ``task`` says what a column holds that could be read in two ways.
    ``views`` are trained on beside each other, each with the rows of its own space; with ``average_views`` each test
    image is judged by the mean of what the head says of its views. With ``class_weight="balanced"`` the images of a
    rare class weigh as much as those of a frequent one. ``min_accuracy`` is the share of answers that is to be right:
    the head gives none where its best class is less probable than held-out training images show that it must be.
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


Rows = TypeVar("Rows", TrainingRows, ValueRows)


@dataclass(frozen=True)
class Material(Generic[Rows]):
    """A version of a dataset in a store, its rows, the spaces that hold their features, and what was asked for."""

    store: Store
    dataset: Dataset
    spaces: Sequence[Space]
    rows: Rows
    options: TrainOptions

    @property
    def width(self) -> int:
        """The number of features of an image."""
        return sum(space.spec.width for space in self.spaces)
