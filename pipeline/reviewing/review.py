"""Finds what a person should check in a dataset: doubtful labels, near duplicates, outliers, and what to label next."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.heads.out_of_fold import HeadPlan, predict_out_of_fold
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.reviewing.labels import find_label_issues, select_to_label
from penult.pipeline.reviewing.neighbours import near_duplicates, nearest, outliers
from penult.pipeline.reviewing.options import REASONS, ReviewOptions
from penult.pipeline.samples.targets import labelled
from penult.store import Store, as_store
from penult.store.catalog.datasets import Dataset
from penult.store.features import choose_spaces, gather
from penult.store.tables.columns import missing_in
from penult.store.tables.formats import write_table
from penult.store.tables.table import Table

__all__ = ["REASONS", "ReviewItem", "ReviewOptions", "Reviewed", "review"]


@dataclass(frozen=True)
class ReviewItem:
    """One image to check, and why. Near duplicates share a ``group``.

    `REASONS` explains the reasons and what the score of each means.
    """

    row: int
    path: str
    reason: str
    label: str
    split: str
    suggested: str
    score: float
    group: int | None = None


@dataclass(frozen=True)
class Reviewed:
    """The images to check in a dataset, by reason, the most doubtful first. None of them is certainly wrong."""

    dataset: Dataset
    found: tuple[ReviewItem, ...]
    target: str
    threshold: float
    notes: tuple[str, ...]

    def of(self, reason: str) -> tuple[ReviewItem, ...]:
        """Returns the images with one reason."""
        return tuple(one for one in self.found if one.reason == reason)

    def table(self) -> Table:
        """Returns each listed image once, with its label and split to correct, and the reasons."""
        reasons: dict[int, list[ReviewItem]] = {}
        for one in self.found:
            reasons.setdefault(one.row, []).append(one)
        chosen = self.dataset.select(np.array(list(reasons), np.intp))
        return chosen.with_columns(
            review=[" and ".join(dict.fromkeys(one.reason for one in own)) for own in reasons.values()],
            suggested=[own[0].suggested or None for own in reasons.values()],
            score=[round(own[0].score, 4) for own in reasons.values()],
        )

    def write(self, path: str | Path, *, everything: bool = True) -> None:
        """Writes a table to correct and import: the whole dataset, doubtful images first.

        Without ``everything`` it contains only the listed images.
        """
        listed = self.table()
        if not everything:
            write_table(path, listed)
            return
        known = {one.row for one in self.found}
        rest = self.dataset.select(np.array([row for row in range(len(self.dataset)) if row not in known], np.intp))
        empty: list[Any] = [None] * len(rest)
        added = dict.fromkeys(("review", "suggested", "score"), empty)
        columns = {
            name: [*listed.columns[name].tolist(), *added.get(name, rest.columns.get(name, empty))]
            for name in listed.columns
        }
        keys = np.concatenate([listed.keys, rest.keys])
        write_table(path, Table(keys, (*listed.paths, *rest.paths)).with_columns(columns))

    def to_json(self) -> dict[str, Any]:
        """Returns what was found as plain data."""
        return {
            "dataset": self.dataset.name,
            "version": self.dataset.version,
            "target": self.target,
            "threshold": self.threshold,
            "counts": {reason: len(self.of(reason)) for reason in REASONS},
            "notes": list(self.notes),
            "found": [{name: value for name, value in vars(one).items() if name != "row"} for one in self.found],
        }


def review(
    store: Store | str | Path,
    *,
    dataset: str,
    features: str = "penultimate",
    backbone: str | None = None,
    options: ReviewOptions | None = None,
    progress: Progress | None = None,
) -> Reviewed:
    """Finds doubtful labels, near duplicates (a leak if they are in two splits), outliers, and what to label next.

    Labels are checked by heads that were not fitted on the image. Nothing is changed. Correcting labels of the test
    split with this list biases a later test.
    """
    options, progress = options or ReviewOptions(), progress or Silent()
    opened = as_store(store)
    whole = opened.catalog.datasets.load(dataset, options.version)
    table = labelled(whole, options.target, options.task)
    found = _Findings(table, gather(choose_spaces(opened, features, backbone), table.keys), options)
    with progress.task("Review", total=HeadPlan.n_folds + 1, unit="steps") as task:
        if table.labels is not None:
            found.check_labels(task.advance)
        found.compare_images()
        task.advance()
    items = sorted(found.items, key=lambda item: list(REASONS).index(item.reason))
    # The table to correct is the original dataset: the target that was read as its labels must not replace them.
    return Reviewed(whole, tuple(items), options.target, options.threshold, tuple(found.notes))


class _Findings:
    """Collects the images to check, and notes."""

    def __init__(self, table: Dataset, features: NDArray[np.float32], options: ReviewOptions) -> None:
        self.table, self.features, self.options = table, features, options
        self.items, self.notes = list[ReviewItem](), list[str]()
        self.labels, self.splits = (
            np.array([""] * len(table)) if column is None else np.where(missing_in(column), "", column).astype(str)
            for column in (table.labels, table.splits)
        )

    def check_labels(self, advance: Callable[[], None]) -> None:
        """Adds doubtful labels, and the unlabelled images whose label would help most."""
        known, unlabelled = np.flatnonzero(self.labels != ""), np.flatnonzero(self.labels == "")
        names, codes = np.unique(self.labels[known], return_inverse=True)
        if len(names) < 2:
            self.notes.append("fewer than two classes are labelled, so labels cannot be checked")
            return
        groups = self.table.groups
        known_groups = None if groups is None else np.array([str(group) for group in groups[known]], object)
        X, plan = self.features[known], HeadPlan(self.options.head, seed=self.options.seed)
        held = predict_out_of_fold(X, codes, known_groups, plan, advance=advance)
        issues = find_label_issues(held.probabilities, codes)
        self._add(((int(known[each.row]), str(names[each.suggested]), each.probability) for each in issues), "label")
        if not len(unlabelled):
            self.notes.append("every image has a label, so there is none to label next")
            return
        new = self.features[unlabelled]
        probabilities = _probabilities(X, codes, new, plan)
        chosen = select_to_label(probabilities, new, self.options.next_images)
        predicted = names[probabilities.argmax(axis=1)]
        self._add(((int(unlabelled[row]), str(predicted[row]), margin) for row, margin in chosen), "label next")

    def compare_images(self) -> None:
        """Adds near duplicates and outliers."""
        near = nearest(self.features, threshold=self.options.threshold)
        for number, (rows, cosine) in enumerate(near_duplicates(near, len(self.features)), 1):
            is_leak = len({str(self.splits[row]) for row in rows} - {""}) > 1
            self._add(((row, "", cosine) for row in rows), "leak" if is_leak else "near-duplicate", group=number)
        self._add(((row, "", cosine) for row, cosine in outliers(near)), "outlier")

    def _add(self, rows: Iterable[tuple[int, str, float]], reason: str, *, group: int | None = None) -> None:
        for row, suggested, score in rows:
            label, split, path = str(self.labels[row]), str(self.splits[row]), self.table.paths[row]
            self.items.append(ReviewItem(row, path, reason, label, split, suggested, score, group))


def _probabilities(
    X: NDArray[np.float32], codes: NDArray[np.intp], new: NDArray[np.float32], plan: HeadPlan
) -> NDArray[np.floating]:
    """Returns the probabilities of unlabelled rows by a head that is fitted on all labelled ones."""
    from penult.pipeline.heads.recipe import HeadOptions
    from penult.pipeline.heads.registry import recipe_of
    from penult.pipeline.heads.scoring import predict_in_blocks

    task = HeadOptions(len(codes), int(codes.max()) + 1, X.shape[1], plan.seed)
    return predict_in_blocks(recipe_of(plan.head, task).fit(X, codes, seed=plan.seed).estimator.predict_proba, new)
