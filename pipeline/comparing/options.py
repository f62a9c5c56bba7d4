"""How `compare` runs. This module imports no numerical library, so that the command line can show the defaults."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penult.defaults import TARGET
from penult.pipeline.heads.names import Task

if TYPE_CHECKING:  # which loads NumPy
    from penult.pipeline.evaluation.measures import Measure

__all__ = ["CompareOptions"]


@dataclass(frozen=True)
class CompareOptions:
    """Which rows `compare` uses, and how it validates and ranks.

    Attributes:
        version: the version of the dataset; the newest by default.
        target: the column with the classes.
        n_folds: the number of cross-validation folds.
        class_weight: ``"balanced"`` weights classes so that rare ones count as much as frequent ones.
        seed: makes the folds repeatable.
        task: how to read the target; see `TrainOptions`.
        most_rows: at most this many images are held out. Fewer are if they do not fit into memory; a note says so.
        by: the metric to rank by. The default is accuracy, or balanced accuracy with balanced class weights.
    """

    version: int | None = None
    target: str = TARGET
    n_folds: int = 5
    class_weight: str | None = None
    seed: int = 0
    task: Task | None = None
    most_rows: int | None = None
    by: "Measure | None" = None
