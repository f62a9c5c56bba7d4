"""Compares heads and features by cross-validation on the training images. The test split is not used."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.defaults import MEASURES, QUICK_HEADS
from penult.errors import InputError
from penult.pipeline.comparing.held_out import HeldOutCache, limit_rows
from penult.pipeline.comparing.options import CompareOptions
from penult.pipeline.evaluation.evaluation import Evaluation, evaluate
from penult.pipeline.evaluation.intervals import Interval, paired_p_values
from penult.pipeline.evaluation.measures import Measure, contributions_of, figure_of, format_measure, measure_for
from penult.pipeline.heads.out_of_fold import HeadPlan
from penult.pipeline.heads.registry import recipe_maker
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.samples.rows import choose_rows
from penult.pipeline.samples.targets import labelled
from penult.store import Space, Store, as_store
from penult.store.features import choose_spaces

__all__ = [
    "CompareOptions",
    "Compared",
    "Try",
    "compare",
    "complete_features",
    "extraction_milliseconds",
]

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Try:
    """One head on one choice of features, with its results on held-out training images.

    ``figure`` is the metric that ranks. ``p_value`` is the probability of such a lag behind the best by chance alone,
    corrected for all pairs of tries; it is None for the best itself. ``extraction_ms`` is None if no job of the store
    measured it.
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
        """Whether the best try is significantly better than this one."""
        return self.p_value is not None and self.p_value < SIGNIFICANCE

    def to_json(self) -> dict[str, Any]:
        """Returns the try as plain data."""
        return {
            "features": self.features,
            "head": self.head,
            "width": self.width,
            **self.evaluation.summary(),
            "fit_seconds": round(self.fit_seconds, 4),
            "extraction_ms": self.extraction_ms,
            "p_value": self.p_value,
            "is_worse": self.is_worse,
        }


@dataclass(frozen=True)
class Compared:
    """All tries, the best by ``measure`` first; ``computed`` of them were not in the cache."""

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
        """Whether the best is significantly better than every other."""
        return len(self.tries) > 1 and all(one.is_worse for one in self.tries[1:])

    @property
    def equals(self) -> tuple[Try, ...]:
        """The best, and all tries that are not significantly worse."""
        return tuple(one for one in self.tries if not one.is_worse)

    def verdict_on(self, one: Try) -> str:
        """Returns how a try compares with the best, in words."""
        return "best" if one is self.best else "clearly worse" if one.is_worse else "no clear difference"

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        best, n = self.best, self.best.evaluation.n
        value = format_measure(best.figure.value, self.measure)
        figure = (
            f"{value} of {n:,} held-out images correct"
            if self.measure == "accuracy"
            else f"a {MEASURES[self.measure]} of {value} on {n:,} held-out images"
        )
        result = f"{best.head} on {best.features}: {figure}"
        if len(self.tries) == 1:
            return f"{result}; there is nothing to compare it with."
        if self.has_winner:
            return f"{result}, significantly better than all {len(self.tries) - 1} others."
        simple = min(self.equals, key=lambda one: (one.width, one.fit_seconds))
        cheap = "" if simple is best else f"; the one with the fewest features is {simple.head} on {simple.features}"
        return (
            f"{result}, but {len(self.equals)} of {len(self.tries)} tries do not differ clearly on these images{cheap}."
        )

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
    heads: Sequence[str] = QUICK_HEADS,
    options: CompareOptions | None = None,
    progress: Progress | None = None,
) -> Compared:
    """Tries every head on every choice of features, and tests which differences are significant.

    Each of ``features`` is what `train` takes. The default is every tap that has all rows, all taps of each backbone
    together, and the penultimate taps of all backbones together. Only training images are used, each held out once,
    so the test split can still judge the choice. Results are cached: a second call computes nothing.
    """
    options, progress = options or CompareOptions(), progress or Silent()
    measure = measure_for(options.by, options.class_weight)
    heads = list(dict.fromkeys(heads))
    for head in heads:
        recipe_maker(head)
    if not heads:
        raise InputError("no head is to be compared", expected=f"one at least, such as {QUICK_HEADS[0]}")
    opened = as_store(store)
    table = opened.catalog.datasets.load(dataset, options.version)
    rows = choose_rows(labelled(table, options.target, options.task))
    notes = list(rows.notes)
    chosen = (
        complete_features(opened, rows.train.keys, notes)
        if features is None
        else [choose_spaces(opened, named) for named in features]
    )
    plans = [HeadPlan(head, {}, options.class_weight, options.n_folds, options.seed) for head in heads]
    widest = max(sum(space.spec.width for space in spaces) for spaces in chosen)
    train, limits = limit_rows(rows.train, widest, options.most_rows)
    notes += limits
    cache, tries = HeldOutCache(opened, train), []
    with progress.task("Compare", total=len(chosen) * len(plans), unit="tries") as task:
        for spaces in chosen:
            cost = extraction_milliseconds(opened, spaces)
            for plan in plans:
                tries.append(_try(cache, spaces, plan, measure, cost))
                task.advance()
    return Compared(dataset, _ranked(tries, measure), cache.computed, measure, tuple(notes))


def _try(cache: HeldOutCache, spaces: Sequence[Space], plan: HeadPlan, measure: Measure, cost: float | None) -> Try:
    result = cache.predictions(spaces, plan)
    held = result.was_held_out
    names = tuple(map(str, cache.names))
    evaluation = evaluate(cache.train.keys[held], cache.codes[held], result.probabilities[held], names)
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
    added = np.array([contributions_of(one.evaluation, measure) for one in ranked])
    p_values = paired_p_values(added > 0 if measure == "accuracy" else added)
    rest = [replace(one, p_value=float(p_values[0, place])) for place, one in enumerate(ranked) if place]
    return (ranked[0], *rest)


def complete_features(store: Store, keys: NDArray[np.uint8], notes: list[str]) -> list[list[Space]]:
    """Returns the choices of features that have a row for all keys: single taps, taps together, backbones together.

    Adds a note for each space that lacks rows.
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
    choices = [[space] for space in whole] + [taps for taps in backbones.values() if len(taps) > 1]
    last = {space.spec.fingerprint: space for space in whole if space.spec.tap == "penultimate"}
    if len(last) > 1:
        choices.append(list(last.values()))
    return choices


def extraction_milliseconds(store: Store, spaces: Sequence[Space]) -> float | None:
    """Returns the time per image of the jobs that extracted these spaces, in milliseconds; None if unknown.

    One job extracts several taps of a backbone in one pass, so only the slowest tap of each backbone counts.
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
