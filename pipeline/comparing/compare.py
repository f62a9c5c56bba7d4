"""Backbones, taps and heads tried on the same training images, each held out in turn: the test split is not touched."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.comparing.cache import KeptResults
from penult.pipeline.comparing.sampling import manageable
from penult.pipeline.evaluation.evaluation import Evaluation, evaluate
from penult.pipeline.evaluation.intervals import Interval, paired_p_values
from penult.pipeline.evaluation.measures import NAMES, Measure, credits_of, figure_of, measure_for, told
from penult.pipeline.heads.names import Task
from penult.pipeline.heads.out_of_fold import HeadPlan, OutOfFold, predict_out_of_fold
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.samples.rows import Samples, choose_rows
from penult.pipeline.samples.targets import LABEL, labelled
from penult.store import Space, Store, open_store
from penult.store.features import choose_spaces, gather

__all__ = [
    "QUICK",
    "CompareOptions",
    "Compared",
    "Try",
    "compare",
    "extraction_milliseconds",
    "offered_features",
    "results_of",
]


QUICK = ("logistic", "ridge", "lda", "centroid")
"""The heads that take seconds."""


@dataclass(frozen=True)
class CompareOptions:
    """The dataset's version and target, how many folds are held out, how classes are weighted, and the seed.

    ``by`` is the figure that ranks the tries; where none is named it is the accuracy, or with balanced class weights
    the balanced accuracy. ``task`` is as in `TrainOptions`. No more than ``most_rows`` images are held out, and no more
    than there is memory for; a note says so.
    """

    version: int | None = None
    target: str = LABEL
    n_folds: int = 5
    class_weight: str | None = None
    seed: int = 0
    task: Task | None = None
    most_rows: int | None = None
    by: Measure | None = None


@dataclass(frozen=True)
class Try:
    """One head on one choice of features, judged on held-out training images by one ``figure``.

    ``p_value`` says how often chance alone sets it so far behind the best, corrected for all pairs of tries; it is
    None for the best itself. ``extraction_ms`` is None where no job of the store has measured it.
    """

    features: str
    head: str
    width: int
    evaluation: Evaluation
    figure: Interval
    fit_seconds: float
    extraction_ms: float | None
    p_value: float | None = None

    @property
    def is_worse(self) -> bool:
        """Whether the best try is really better than this one."""
        return self.p_value is not None and self.p_value < 0.05

    def to_json(self) -> dict[str, Any]:
        """Returns the try as plain data."""
        figures = self.evaluation.summary()
        return {
            "features": self.features,
            "head": self.head,
            "width": self.width,
            **figures,
            "fit_seconds": round(self.fit_seconds, 4),
            "extraction_ms": self.extraction_ms,
            "p_value": self.p_value,
            "is_worse": self.is_worse,
        }


@dataclass(frozen=True)
class Compared:
    """All tries, the best by ``measure`` first; ``computed`` of them were not known from an earlier run."""

    dataset: str
    tries: tuple[Try, ...]
    computed: int
    measure: Measure
    notes: tuple[str, ...] = field(default=())

    @property
    def best(self) -> Try:
        """The best try."""
        return self.tries[0]

    @property
    def has_winner(self) -> bool:
        """Whether the best is really better than every other."""
        return len(self.tries) > 1 and all(one.is_worse for one in self.tries[1:])

    @property
    def equals(self) -> tuple[Try, ...]:
        """The best and all that cannot be told from it."""
        return tuple(one for one in self.tries if not one.is_worse)

    @property
    def sentence(self) -> str:
        """What the table says, in one sentence."""
        best, n = self.best, self.best.evaluation.n
        worth = told(best.figure.value, self.measure)
        what = (
            f"{worth} of {n:,} held-out images right"
            if self.measure == "accuracy"
            else f"a {NAMES[self.measure]} of {worth} on {n:,} held-out images"
        )
        said = f"{best.head} on {best.features}: {what}"
        if len(self.tries) == 1:
            return f"{said}; nothing to compare it with."
        if self.has_winner:
            return f"{said}, really better than all {len(self.tries) - 1} others."
        simple = min(self.equals, key=lambda one: (one.width, one.fit_seconds))
        cheap = "" if simple is best else f"; the narrowest of them is {simple.head} on {simple.features}"
        return f"{said}, but {len(self.equals)} of {len(self.tries)} tries cannot be told apart on these images{cheap}."

    def to_json(self) -> dict[str, Any]:
        """Returns the comparison as plain data."""
        return {
            "dataset": self.dataset,
            "by": self.measure,
            "computed": self.computed,
            "has_winner": self.has_winner,
            "sentence": self.sentence,
            "notes": list(self.notes),
            "tries": [one.to_json() for one in self.tries],
        }


def compare(
    store: Store | str | Path,
    *,
    dataset: str,
    features: Sequence[str] | None = None,
    heads: Sequence[str] = QUICK,
    options: CompareOptions | None = None,
    progress: Progress | None = None,
) -> Compared:
    """Tries every head on every choice of features, and tells which differences are more than chance.

    ``features`` are each what `train` takes; by default every tap of every backbone that has all rows, the taps of
    each backbone side by side, and the backbones side by side. Only training images are used, each held out once, so
    that the test split can still judge the choice. Every result is kept: a second call computes nothing.
    """
    from penult.pipeline.heads.registry import recipe_maker

    options, progress = options or CompareOptions(), progress or Silent()
    measure = measure_for(options.by, options.class_weight)
    for head in dict.fromkeys(heads):
        recipe_maker(head)
    if not heads:
        raise InputError("no head is to be compared", expected=f"one at least, such as {QUICK[0]}")
    opened = store if isinstance(store, Store) else open_store(store, create=False)
    table = opened.catalog.datasets.load(dataset, options.version)
    rows = choose_rows(labelled(table, options.target, options.task))
    notes = list(rows.notes)
    chosen = (
        offered_features(opened, rows.train.keys, notes)
        if features is None
        else [choose_spaces(opened, named) for named in features]
    )
    plans = [HeadPlan(head, {}, options.class_weight, options.n_folds, options.seed) for head in dict.fromkeys(heads)]
    widest = max(sum(space.spec.width for space in spaces) for spaces in chosen)
    train, said = manageable(rows.train, widest, options.most_rows)
    notes += said
    kept = KeptResults(opened.path, train)
    tries, computed = [], 0
    with progress.task("Compare", total=len(chosen) * len(plans), unit="tries") as task:
        for spaces in chosen:
            results, fresh = results_of(spaces, plans, train, kept, task.advance)
            computed += fresh
            cost = extraction_milliseconds(opened, spaces)
            tries += [
                _try(spaces, plan, train, result, measure, cost) for plan, result in zip(plans, results, strict=True)
            ]
    return Compared(dataset, _ranked(tries, measure), computed, measure, tuple(notes))


def results_of(
    spaces: Sequence[Space], plans: Sequence[HeadPlan], train: Samples, kept: KeptResults, advance: Any
) -> tuple[list[OutOfFold], int]:
    """Returns a result for each plan, and how many were not known; rows are read only where one is not."""
    names, codes = np.unique(train.labels.astype(str), return_inverse=True)
    X, results, fresh = None, [], 0
    for plan in plans:
        path = kept.path(spaces, plan)
        result = kept.read(path, len(train), len(names))
        if result is None:
            X = gather(spaces, train.keys) if X is None else X
            result = predict_out_of_fold(X, codes, train.groups, plan)
            kept.keep(path, result)
            fresh += 1
        results.append(result)
        advance()
    return results, fresh


def _try(
    spaces: Sequence[Space], plan: HeadPlan, train: Samples, result: OutOfFold, measure: Measure, cost: float | None
) -> Try:
    names, codes = np.unique(train.labels.astype(str), return_inverse=True)
    held = result.was_held_out
    evaluation = evaluate(train.keys[held], codes[held], result.probabilities[held], tuple(map(str, names)))
    return Try(
        features="+".join(space.spec.name for space in spaces),
        head=plan.head,
        width=sum(space.spec.width for space in spaces),
        evaluation=evaluation,
        figure=figure_of(evaluation, measure),
        fit_seconds=result.seconds,
        extraction_ms=cost,
    )


def _ranked(tries: Sequence[Try], measure: Measure) -> tuple[Try, ...]:
    sign = 1 if measure == "log_loss" else -1
    ranked = sorted(tries, key=lambda one: (sign * one.figure.value, one.evaluation.log_loss))
    added = np.array([credits_of(one.evaluation, measure) for one in ranked])
    chance = paired_p_values(added > 0 if measure == "accuracy" else added)
    rest = [replace(one, p_value=float(chance[0, place])) for place, one in enumerate(ranked) if place]
    return (ranked[0], *rest)


def offered_features(store: Store, keys: NDArray[np.uint8], notes: list[str]) -> list[list[Space]]:
    """Returns each space that has a row for all keys, the taps of each backbone together, and the backbones together.

    Spaces that lack rows are named in ``notes``.
    """
    whole = []
    for space in store.spaces():
        if space.spec.view != "identity":
            continue
        missing = len(space.missing(keys))
        if missing:
            notes.append(f"{space.spec.name} has no features of {missing:,} training images and is left out")
        else:
            whole.append(space)
    if not whole:
        raise InputError(
            "no space of the store has features of all training images",
            expected="one at least",
            remedy="run 'penult extract' on the images of the dataset",
        )
    backbones: dict[tuple[str, str], list[Space]] = defaultdict(list)
    for space in whole:
        backbones[space.spec.fingerprint, space.spec.dtype].append(space)
    offers = [[space] for space in whole] + [taps for taps in backbones.values() if len(taps) > 1]
    last = {space.spec.fingerprint: space for space in whole if space.spec.tap == "penultimate"}
    if len(last) > 1:
        offers.append(list(last.values()))
    return offers


def extraction_milliseconds(store: Store, spaces: Sequence[Space]) -> float | None:
    """Returns what an image cost the jobs that made these spaces, in milliseconds of the whole job; None if unknown.

    One job that makes several taps of a backbone makes them in one pass, so the dearest tap of each backbone counts.
    """
    costs: dict[str, float] = {}
    for space in spaces:
        new, seconds = 0, 0.0
        for job in store.catalog.jobs.all():
            receipt = job.receipt or {}
            if space.spec.id in receipt.get("spaces", ()) and receipt.get("new"):
                new, seconds = new + receipt["new"], seconds + receipt["seconds"]
        if not new:
            return None
        costs[space.spec.fingerprint] = max(costs.get(space.spec.fingerprint, 0.0), 1000 * seconds / new)
    return round(sum(costs.values()), 2)
