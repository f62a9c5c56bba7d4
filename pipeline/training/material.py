"""What a head is trained and tested on, whatever it is to tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from penult.pipeline.training.training_rows import TrainingRows
from penult.pipeline.training.value_rows import ValueRows
from penult.store import Space, Store
from penult.store.catalog.datasets import Dataset

if TYPE_CHECKING:
    from penult.pipeline.training.train import TrainOptions

__all__ = ["Material"]

Rows = TypeVar("Rows", TrainingRows, ValueRows)


@dataclass(frozen=True)
class Material(Generic[Rows]):
    """A version of a dataset in a store, its rows, the spaces that hold their features, and what was asked for."""

    store: Store
    dataset: Dataset
    spaces: Sequence[Space]
    rows: Rows
    options: "TrainOptions"

    @property
    def width(self) -> int:
        """The number of features of an image."""
        return sum(space.spec.width for space in self.spaces)
