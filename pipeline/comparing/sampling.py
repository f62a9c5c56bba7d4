"""Held-out tries keep their rows in memory several times over: of too many a stratified part is taken, and said so."""

from dataclasses import replace

import numpy as np

from penult.pipeline.heads.numerics.folds import sample
from penult.pipeline.heads.training_matrix import usable_memory_bytes
from penult.pipeline.samples.rows import Samples

__all__ = ["manageable"]

SHARE = 0.5
"""The part of the memory that the tries may take."""

COPIES = 4
"""The rows, those outside of a fold, and two scaled copies of these at worst, each in float32."""


def manageable(train: Samples, width: int, most: int | None = None) -> tuple[Samples, tuple[str, ...]]:
    """Returns the samples, or as many of each class's as there is memory for at ``width``, ``most`` at most.

    The same samples give the same part. The second is what should be said of it.
    """
    memory = usable_memory_bytes()
    fitting = len(train) if memory is None else int(SHARE * memory / (COPIES * 4 * width))
    bound = min(fitting, len(train) if most is None else most)
    if bound >= len(train):
        return train, ()
    codes = np.unique(train.labels.astype(str), return_inverse=True)[1]
    rows = sample(codes, bound, seed=0)
    part = replace(
        train,
        keys=train.keys[rows],
        labels=train.labels[rows],
        paths=tuple(train.paths[row] for row in rows),
        groups=None if train.groups is None else train.groups[rows],
    )
    why = "as many as the memory has room for" if bound == fitting else "which is enough to tell heads apart"
    return part, (f"{len(rows):,} of the {len(train):,} training images were held out, {why}",)
