"""How `review` runs. This module imports no numerical library, so that the command line can show the defaults."""

from dataclasses import dataclass

from penult.defaults import TARGET
from penult.pipeline.heads.names import DEFAULT, Task

__all__ = ["REASONS", "ReviewOptions"]

# Why an image is listed and what its score means, in the order of the list.
REASONS = {
    "label": "held-out predictions contradict the label; score: probability of the suggested class",
    "leak": "near duplicates in several splits; score: lowest cosine similarity in the group",
    "near-duplicate": "nearly the same picture; score: lowest cosine similarity in the group",
    "outlier": "unlike all other images; score: mean cosine similarity to the nearest images",
    "label next": "unlabelled images whose label helps most; score: margin between the two most probable classes",
}


@dataclass(frozen=True)
class ReviewOptions:
    """What `review` looks for.

    Attributes:
        version: the version of the dataset; the newest by default.
        target: the column with the classes.
        task: how to read the target; see `TrainOptions`.
        head: the kind of head whose held-out predictions check the labels.
        threshold: the cosine similarity of centred features from which two images are near duplicates.
        next_images: how many unlabelled images to suggest for labelling.
        seed: makes the folds repeatable.
    """

    version: int | None = None
    target: str = TARGET
    task: Task | None = None
    head: str = DEFAULT
    threshold: float = 0.95
    next_images: int = 20
    seed: int = 0
