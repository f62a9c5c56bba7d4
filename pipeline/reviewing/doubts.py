"""What casts doubt on a head before it is trained: leaks, scarce classes, strange and likely wrong labels."""

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.reviewing.labels import doubted_labels
from penult.pipeline.reviewing.neighbours import nearest
from penult.pipeline.reviewing.review import ReviewOptions
from penult.pipeline.samples.rows import Samples, TrainingRows
from penult.pipeline.words import counted, shortlist
from penult.store import Space
from penult.store.features import gather

__all__ = ["doubts_about"]

FEW = 10
"""A class with fewer training images rests on each single one of them."""

NAMED = 3
"""How many classes or images a sentence names."""

MOST_IMAGES, MOST_WORK = 5_000, 3e10
"""Images, and images times images times features: with more, looking at every pair would take more than seconds."""

MOST_CLASS_WORK = 1e9
"""Images times features times classes: with more, so would leaving each image out."""


def doubts_about(rows: TrainingRows, spaces: Sequence[Space]) -> tuple[str, ...]:
    """Returns warnings about the data that make a head's accuracy less reliable, as sentences.

    Near copies and doubtful labels are searched only where that takes at most a second or two.
    """
    X = _features(rows, spaces)
    about_classes: list[str] = []
    if rows.target.task == "classification":
        about_classes = [*_few(rows.train), *_unseen(rows)]
        about_classes += [] if X is None else _wrong(rows.train, X[: len(rows.train)])
    return (*_shared_groups(rows), *about_classes, *_alike(rows, X))


def _features(rows: TrainingRows, spaces: Sequence[Space]) -> NDArray[np.float32] | None:
    """Returns the features of all training images and then of all test images; None where these are too many."""
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


def _few(train: Samples) -> list[str]:
    scarce = sorted((count, name) for name, count in Counter(train.labels.tolist()).items() if count < FEW)
    if not scarce:
        return []
    named = shortlist([f"{name}: {count}" for count, name in scarce], NAMED)
    return [f"{len(scarce)} classes have fewer than {FEW} training images, so that each of them counts ({named})"]


def _unseen(rows: TrainingRows) -> list[str]:
    classes = set(rows.classes)
    known = {name.casefold(): name for name in classes}
    strange = Counter(label for label in rows.test.labels.tolist() if label not in classes)
    if not strange:
        return []
    named = []
    for name, count in sorted(strange.items()):
        close = get_close_matches(name.casefold(), known, n=1, cutoff=0.8)
        named.append(f"{name}: {count}" + (f", perhaps meant as {known[close[0]]}" if close else ""))
    return [f"{strange.total()} test images bear labels that no training image bears ({shortlist(named, NAMED)})"]


def _wrong(train: Samples, X: NDArray[np.float32]) -> list[str]:
    from penult.pipeline.heads.estimators.lda import leave_one_out_probabilities

    names, codes = np.unique(train.labels.astype(str), return_inverse=True)
    if X.size * len(names) > MOST_CLASS_WORK:
        return []
    doubts = doubted_labels(leave_one_out_probabilities(X, codes), codes)
    if not doubts:
        return []
    named = [
        f"{Path(train.paths[doubt.row]).name} is labelled {names[codes[doubt.row]]} and looks like "
        f"{names[doubt.suggested]}"
        for doubt in doubts
    ]
    return [
        f"{len(doubts)} of {len(train)} training images look much like another class than their label's "
        f"({shortlist(named, NAMED)}): wrong labels or hard images; 'penult review' lists them"
    ]


def _alike(rows: TrainingRows, X: NDArray[np.float32] | None) -> list[str]:
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
        f"{affected} of {len(rows.test)} test images {verb} nearly like training images (a cosine of {threshold} or "
        "more): the accuracy on new images is likely lower; 'penult review' lists them"
    ]
