"""Labels that held-out probabilities speak against (confident learning), and images whose label would help most."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.evaluation.intervals import wilson

__all__ = ["LabelDoubt", "doubted_labels", "most_helpful"]

MOSTLY = 0.6
"""Of what heads are confident of, more than this share must be labelled so: else it is they that are to be doubted."""


@dataclass(frozen=True)
class LabelDoubt:
    """A row whose label is doubted, the class spoken for, and how likely that class and the label seem."""

    row: int
    suggested: int
    probability: float
    label_probability: float


def doubted_labels(probabilities: NDArray[np.floating], codes: NDArray[np.intp]) -> list[LabelDoubt]:
    """Returns the rows whose label is likely wrong, the most doubtful first.

    A row is confidently of a class if its held-out probability reaches the mean of what images labelled so are given
    (Northcutt et al., 2021). It is doubted if it is confidently of another class, and that class is the likeliest. No
    label is, unless more than six in ten of the rows that are confidently of a class bear it, by more than chance:
    features that tell nothing, or little, would speak against half of all labels. ``probabilities`` (n, C) must come
    from heads that did not see the row; rows of NaN are passed over.
    """
    told = ~np.isnan(probabilities).any(axis=1)
    width = probabilities.shape[1]
    own = probabilities[np.arange(len(codes)), codes]
    needed = np.full(width, np.inf)
    for code in range(width):
        mine = told & (codes == code)
        if mine.any():
            needed[code] = own[mine].mean()
    likeliest = np.where(told[:, None], probabilities, -1).argmax(axis=1)
    best = probabilities[np.arange(len(codes)), likeliest]
    confident = told & (best >= needed[likeliest])
    agrees = confident & (likeliest == codes)
    if wilson(int(agrees.sum()), int(confident.sum())).low <= MOSTLY:
        return []
    rows = np.flatnonzero(confident & ~agrees)
    order = rows[np.argsort(own[rows] - best[rows], kind="stable")]
    return [LabelDoubt(int(row), int(likeliest[row]), float(best[row]), float(own[row])) for row in order]


def most_helpful(
    probabilities: NDArray[np.floating], features: NDArray[np.floating], count: int
) -> list[tuple[int, float]]:
    """Returns up to ``count`` rows whose label would teach most, with the margin between their two likeliest classes.

    Each next row is the one whose doubt (one less its margin) times its distance (one less the cosine) from the
    nearest row taken before is the greatest, so that no two are of the same picture.
    """
    ordered = np.sort(probabilities, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    doubt = 1 - margin
    centred = features - features.mean(axis=0)
    directions = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    apart = np.full(len(features), 2.0)
    taken: list[tuple[int, float]] = []
    for _ in range(min(count, len(features))):
        score = doubt * apart
        score[[row for row, _ in taken]] = -1
        row = int(score.argmax())
        taken.append((row, float(margin[row])))
        apart = np.minimum(apart, 1 - directions @ directions[row])
    return taken
