"""Warnings about the data before a head is trained: leaks, small classes, unknown labels and likely label errors."""

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.reviewing.labels import find_label_issues
from penult.pipeline.reviewing.neighbours import nearest
from penult.pipeline.reviewing.options import ReviewOptions
from penult.pipeline.samples.rows import Samples, TrainingRows
from penult.pipeline.words import counted, shortlist
from penult.store import Space
from penult.store.features import gather

__all__ = ["data_warnings"]

# A class with fewer training images gives an unreliable head.
FEW = 10

# The number of classes or images that a sentence names.
NAMED = 3

# The largest number of images, and of images * images * features, for which comparing all pairs takes only seconds.
MOST_IMAGES, MOST_WORK = 5_000, 3e10

# The largest images * features * classes for which leave-one-out predictions take only seconds.
MOST_CLASS_WORK = 1e9


def data_warnings(rows: TrainingRows, spaces: Sequence[Space]) -> tuple[str, ...]:
    """Returns warnings about the data that make a head's accuracy less reliable, as sentences.

    Near duplicates and label errors are searched only if that takes at most a second or two.
    """
    X = _features(rows, spaces)
    class_warnings: list[str] = []
    if rows.target.task == "classification":
        class_warnings = [*_small_classes(rows.train), *_unknown_labels(rows)]
        class_warnings += [] if X is None else _label_errors(rows.train, X[: len(rows.train)])
    return (*_shared_groups(rows), *class_warnings, *_near_duplicates(rows, X))


def _features(rows: TrainingRows, spaces: Sequence[Space]) -> NDArray[np.float32] | None:
    """Returns the features of all training images, then of all test images; None if there are too many."""
    n, width = len(rows.train) + len(rows.test), sum(space.spec.width for space in spaces)
    if n > MOST_IMAGES or n * n * width > MOST_WORK:
        return None
    return gather(spaces, np.concatenate([rows.train.keys, rows.test.keys]))


def _shared_groups(rows: TrainingRows) -> list[str]:
    if rows.train.groups is None or rows.test.groups is None:
        return []
    shared = set(rows.train.groups.tolist()) & set(rows.test.groups.tolist())
    if not shared:
        return []
    affected = int(np.isin(rows.test.groups.astype(str), sorted(shared)).sum())
    return [
        f"{counted(len(shared), 'group')} in both training and test, with {affected:,} of {len(rows.test):,} test "
        "images: the accuracy on new groups is probably lower"
    ]


def _small_classes(train: Samples) -> list[str]:
    small = sorted((count, name) for name, count in Counter(train.labels.tolist()).items() if count < FEW)
    if not small:
        return []
    named = shortlist([f"{name}: {count}" for count, name in small], NAMED)
    return [f"{counted(len(small), 'class', 'classes')} with fewer than {FEW} training images ({named})"]


def _unknown_labels(rows: TrainingRows) -> list[str]:
    classes = set(rows.classes)
    known = {name.casefold(): name for name in classes}
    unknown = Counter(label for label in rows.test.labels.tolist() if label not in classes)
    if not unknown:
        return []
    named = []
    for name, count in sorted(unknown.items()):
        close = get_close_matches(name.casefold(), known, n=1, cutoff=0.8)
        named.append(f"{name}: {count}" + (f", perhaps {known[close[0]]}" if close else ""))
    return [
        f"{counted(unknown.total(), 'test image')} with labels that no training image has ({shortlist(named, NAMED)})"
    ]


def _label_errors(train: Samples, X: NDArray[np.float32]) -> list[str]:
    from penult.pipeline.heads.estimators.lda import leave_one_out_probabilities

    names, codes = np.unique(train.labels.astype(str), return_inverse=True)
    if X.size * len(names) > MOST_CLASS_WORK:
        return []
    issues = find_label_issues(leave_one_out_probabilities(X, codes), codes)
    if not issues:
        return []
    named = [
        f"{Path(train.paths[issue.row]).name} is labelled {names[codes[issue.row]]} and looks like "
        f"{names[issue.suggested]}"
        for issue in issues
    ]
    return [
        f"{len(issues)} of {len(train)} training images look more like a class other than their label "
        f"({shortlist(named, NAMED)}): wrong labels or hard images; 'penult review' lists them"
    ]


def _near_duplicates(rows: TrainingRows, X: NDArray[np.float32] | None) -> list[str]:
    if X is None:
        return []
    threshold = ReviewOptions.threshold
    pairs = nearest(X, threshold=threshold).pairs
    is_tested = pairs >= len(rows.train)
    across = pairs[is_tested[:, 0] != is_tested[:, 1]]
    affected = len(np.unique(across[across >= len(rows.train)]))
    if not affected:
        return []
    verb = "looks" if affected == 1 else "look"
    return [
        f"{affected} of {len(rows.test)} test images {verb} nearly the same as training images (cosine similarity "
        f"{threshold} or more): the accuracy on new images is probably lower; 'penult review' lists them"
    ]
