"""Label errors by confident learning, and the unlabelled images whose label would help most."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.evaluation.intervals import wilson

__all__ = ["LabelIssue", "find_label_issues", "select_to_label"]

# More than this share of the confident predictions must agree with the labels. Otherwise the predictions are doubtful.
LEAST_AGREEMENT = 0.6


@dataclass(frozen=True)
class LabelIssue:
    """A row whose label is probably wrong, the class suggested instead, and the probability of either class."""

    row: int
    suggested: int
    probability: float
    label_probability: float


def find_label_issues(probabilities: NDArray[np.floating], codes: NDArray[np.intp]) -> list[LabelIssue]:
    """Returns the rows whose label is probably wrong, the most doubtful first.

    A row is confidently of a class if its held-out probability reaches the mean probability of the rows with this
    label (Northcutt et al., 2021). Its label is an issue if it is confidently of another class, and that class is the
    most probable. The result is empty unless significantly more than 60 % of the confident rows have the label of
    their class: uninformative features would contradict half of all labels. ``probabilities`` (n, C) must come from
    heads that were not fitted on the row. Rows of NaN are skipped.
    """
    is_held_out = ~np.isnan(probabilities).any(axis=1)
    n_classes = probabilities.shape[1]
    own = probabilities[np.arange(len(codes)), codes]
    needed = np.full(n_classes, np.inf)
    for code in range(n_classes):
        rows = is_held_out & (codes == code)
        if rows.any():
            needed[code] = own[rows].mean()
    predicted = np.where(is_held_out[:, None], probabilities, -1).argmax(axis=1)
    best = probabilities[np.arange(len(codes)), predicted]
    confident = is_held_out & (best >= needed[predicted])
    agrees = confident & (predicted == codes)
    if wilson(int(agrees.sum()), int(confident.sum())).low <= LEAST_AGREEMENT:
        return []
    rows = np.flatnonzero(confident & ~agrees)
    order = rows[np.argsort(own[rows] - best[rows], kind="stable")]
    return [LabelIssue(int(row), int(predicted[row]), float(best[row]), float(own[row])) for row in order]


def select_to_label(
    probabilities: NDArray[np.floating], features: NDArray[np.floating], count: int
) -> list[tuple[int, float]]:
    """Returns up to ``count`` rows whose label would help most, with the margin between their two best classes.

    Each step selects the row with the largest product of uncertainty (1 - margin) and distance (1 - cosine
    similarity) to the nearest selected row. So no two rows show the same picture.
    """
    ordered = np.sort(probabilities, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    uncertainty = 1 - margin
    centred = features - features.mean(axis=0)
    directions = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    distance = np.full(len(features), 2.0)
    selected: list[tuple[int, float]] = []
    for _ in range(min(count, len(features))):
        score = uncertainty * distance
        score[[row for row, _ in selected]] = -1
        row = int(score.argmax())
        selected.append((row, float(margin[row])))
        distance = np.minimum(distance, 1 - directions @ directions[row])
    return selected
