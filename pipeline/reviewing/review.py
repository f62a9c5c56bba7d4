"""What in a dataset a person should look at: doubtful labels, near copies, outliers, and what to label next."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penult.pipeline.heads.names import Task
from penult.pipeline.heads.out_of_fold import HeadPlan, OutOfFold, predict_out_of_fold
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.reviewing.labels import doubted_labels, most_helpful
from penult.pipeline.reviewing.neighbours import near_duplicates, nearest, outliers
from penult.pipeline.samples.targets import LABEL, labelled
from penult.store import Store, open_store
from penult.store.catalog.datasets import Dataset
from penult.store.features import choose_spaces, gather
from penult.store.tables.columns import missing_in
from penult.store.tables.formats import write_table
from penult.store.tables.table import Table

__all__ = ["REASONS", "ReviewOptions", "Reviewed", "ToReview", "review"]

REASONS = ("label", "leak", "near-duplicate", "outlier", "label next")
"""Why an image is listed, in the order in which the reasons are listed."""


@dataclass(frozen=True)
class ReviewOptions:
    """The head that is held out, how like two images must be to be near-duplicates, and how many to label next.

    ``target`` is the column of the classes, and ``task`` as in `TrainOptions`.
    """

    version: int | None = None
    target: str = LABEL
    task: Task | None = None
    head: str = "logistic"
    threshold: float = 0.95
    next_images: int = 20
    seed: int = 0


@dataclass(frozen=True)
class ToReview:
    """One image to look at, why, and how much speaks for it; ``group`` joins near-duplicates.

    ``score`` is the probability of the suggested class for a label, a cosine for near-duplicates and outliers, and
    the margin between the two likeliest classes for an image to label next.
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
    """The images to look at in a dataset, by reason, the most doubtful first. None of them is certainly wrong."""

    dataset: Dataset
    found: tuple[ToReview, ...]
    target: str
    threshold: float
    notes: tuple[str, ...]

    def of(self, reason: str) -> tuple[ToReview, ...]:
        """Returns the images with one reason."""
        return tuple(one for one in self.found if one.reason == reason)

    def table(self) -> Table:
        """Returns each listed image once, with its label and split to be corrected, and why it is listed.

        Saved as CSV, corrected, and laid over the whole dataset, it becomes the next version.
        """
        reasons: dict[int, list[ToReview]] = {}
        for one in self.found:
            reasons.setdefault(one.row, []).append(one)
        chosen = self.dataset.select(np.array(list(reasons), np.intp))
        return chosen.with_columns(
            review=[" and ".join(dict.fromkeys(one.reason for one in own)) for own in reasons.values()],
            suggested=[own[0].suggested or None for own in reasons.values()],
            score=[round(own[0].score, 4) for own in reasons.values()],
        )

    def write(self, path: str | Path, *, everything: bool = True) -> None:
        """Writes a table to correct: all of the dataset, the doubtful first, so that it can be imported as it is.

        Without ``everything`` it holds the listed images alone.
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
    """Finds doubtful labels, near-duplicates (a leak where they stand in two splits), outliers, and what to label next.

    Labels are doubted by heads that were not fitted on the image. Nothing is changed, and the test split only loses
    its innocence if its labels are corrected by what is shown here and a head is then judged on it.
    """
    options, progress = options or ReviewOptions(), progress or Silent()
    opened = store if isinstance(store, Store) else open_store(store, create=False)
    whole = opened.catalog.datasets.load(dataset, options.version)
    table = labelled(whole, options.target, options.task)
    X = gather(choose_spaces(opened, features, backbone), table.keys)
    listing = _Listing(table)
    with progress.task("Review", total=HeadPlan.n_folds + 1, unit="steps") as task:
        if table.labels is not None:
            _doubt(listing, X, options, task.advance)
        near = nearest(X, threshold=options.threshold)
        task.advance()
    for number, (rows, cosine) in enumerate(near_duplicates(near, len(X)), 1):
        is_leak = len({listing.split(row) for row in rows} - {""}) > 1
        listing.add(((row, "", cosine) for row in rows), "leak" if is_leak else "near-duplicate", group=number)
    listing.add(((row, "", cosine) for row, cosine in outliers(near)), "outlier")
    found = sorted(listing.found, key=lambda one: REASONS.index(one.reason))
    # The table to correct is the dataset as it is: what stands in for its labels here must not become them.
    return Reviewed(whole, tuple(found), options.target, options.threshold, tuple(listing.notes))


class _Listing:
    def __init__(self, table: Dataset) -> None:
        self.table, self.found, self.notes = table, list[ToReview](), list[str]()
        none = np.array([""] * len(table))
        given = (table.labels, table.splits)
        self.labels, self.splits = (
            none if column is None else np.where(missing_in(column), "", column).astype(str) for column in given
        )

    def split(self, row: int) -> str:
        return str(self.splits[row])

    def add(self, rows: Iterable[tuple[int, str, float]], reason: str, *, group: int | None = None) -> None:
        for row, suggested, score in rows:
            label, path = str(self.labels[row]), self.table.paths[row]
            self.found.append(ToReview(row, path, reason, label, self.split(row), suggested, score, group))


def _doubt(listing: _Listing, X: Any, options: ReviewOptions, advance: Any) -> None:
    """Lists doubtful labels, and those images without a label that would teach most."""
    known = np.flatnonzero(listing.labels != "")
    blank = np.flatnonzero(listing.labels == "")
    names, codes = np.unique(listing.labels[known], return_inverse=True)
    if len(names) < 2 or not len(known):
        listing.notes.append("fewer than two classes are labelled, so no label can be doubted")
        return
    groups = listing.table.groups
    within = None if groups is None else np.array([str(group) for group in groups[known]], object)
    plan = HeadPlan(options.head, seed=options.seed)
    held: OutOfFold = predict_out_of_fold(X[known], codes, within, plan, advance=advance)
    doubts = doubted_labels(held.probabilities, codes)
    listing.add(((int(known[doubt.row]), str(names[doubt.suggested]), doubt.probability) for doubt in doubts), "label")
    if len(blank):
        rows = _asked(X[known], codes, X[blank], plan)
        chosen = most_helpful(rows, X[blank], options.next_images)
        listing.add(((int(blank[row]), str(names[rows[row].argmax()]), margin) for row, margin in chosen), "label next")
    else:
        listing.notes.append("every image has a label, so there is none to label next")


def _asked(X: Any, codes: Any, unlabelled: Any, plan: HeadPlan) -> Any:
    from penult.pipeline.heads.recipe import HeadOptions
    from penult.pipeline.heads.registry import recipe_of
    from penult.pipeline.heads.scoring import predict_in_blocks

    task = HeadOptions(len(codes), int(codes.max()) + 1, X.shape[1], plan.seed)
    return predict_in_blocks(
        recipe_of(plan.head, task).fit(X, codes, seed=plan.seed).estimator.predict_proba, unlabelled
    )
