"""How `advise` runs. This module imports no numerical library, so that the command line can show the defaults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penult.defaults import TARGET
from penult.pipeline.heads.names import DEFAULT, Task

__all__ = ["AdviseOptions"]


@dataclass(frozen=True)
class AdviseOptions:
    """What `advise` measures.

    Attributes:
        version: the version of the dataset; the newest by default.
        target: the column with the classes.
        task: how to read the target; see `TrainOptions`.
        head: the kind of head to measure.
        params: fixed parameters of that head.
        probe: the kind of head that compares all stored features; None skips the comparison.
        most_rows: the largest number of training images to use, with the same share of each class.
        seed: makes every random choice repeatable.
    """

    version: int | None = None
    target: str = TARGET
    task: Task | None = None
    head: str = DEFAULT
    params: Mapping[str, Any] = field(default_factory=dict)
    probe: str | None = "lda"
    most_rows: int = 20_000
    seed: int = 0
