"""Which of the quick heads to train, and from which probability on it should answer: both by held-out images alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import erfc, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.comparing.compare import QUICK, CompareOptions, Try, compare, results_of
from penult.pipeline.comparing.kept import KeptResults
from penult.pipeline.comparing.sampling import manageable
from penult.pipeline.progress import Progress
from penult.pipeline.training.abstention import Abstention, choose_abstention
from penult.pipeline.training.evaluation import Evaluation
from penult.pipeline.training.feature_spaces import gather
from penult.pipeline.training.intervals import Z95, Interval
from penult.pipeline.training.out_of_fold import HeadPlan, HeldOut, hold_out
from penult.pipeline.training.paired import mcnemar
from penult.pipeline.training.training_rows import Samples
from penult.store import Space, Store

__all__ = ["Choice", "abstention_of", "choose_head"]

MOST_ROWS = 20_000
"""So many held-out images tell a difference of half a point; more would only take longer."""


@dataclass(frozen=True)
class Choice:
    """The quick heads, the best first, and how far it is ahead of the second on the same held-out training images.

    Each try has its ``measure``: the accuracy, or with balanced class weights the balanced accuracy.
    """

    tries: tuple[Try, ...]
    measure: str
    lead: Interval
    is_real: bool
    notes: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """The name of the head that was chosen."""
        return self.tries[0].head

    @property
    def sentence(self) -> str:
        """What was chosen, and what the choice is worth."""
        best, second = self.tries[:2]
        others = ", ".join(f"{one.head} {_worth(one, self.measure):.1%}" for one in self.tries[1:])
        verdict = "a real difference" if self.is_real else "which chance alone could make"
        ahead, low, high = (100 * value for value in (self.lead.value, self.lead.low, self.lead.high))
        return (
            f"{self.head} was chosen of the quick heads, with {self._named} of {_worth(best, self.measure):.1%} on "
            f"{best.evaluation.n:,} held-out training images ({others}): {ahead:.1f} points ahead of {second.head} "
            f"(95 % interval {low:.1f} to {high:.1f}), {verdict}."
        )

    @property
    def _named(self) -> str:
        return "an accuracy" if self.measure == "accuracy" else "a balanced accuracy"

    def to_json(self) -> dict[str, Any]:
        """Returns the choice as plain data."""
        return {
            "measure": self.measure,
            "n": self.tries[0].evaluation.n,
            "tried": {one.head: _worth(one, self.measure) for one in self.tries},
            "lead": {"value": self.lead.value, "low": self.lead.low, "high": self.lead.high},
            "is_real": self.is_real,
        }


def choose_head(
    store: Store, dataset: str, spaces: Sequence[Space], options: CompareOptions, progress: Progress | None = None
) -> Choice:
    """Holds every quick head out on the training images, as `compare` does, and takes the best.

    With balanced class weights that is the one which is best at the mean over classes. What `compare` has computed is
    not computed again.
    """
    features = ",".join(
        ":".join([space.spec.fingerprint, space.spec.tap, *({space.spec.view} - {"identity"}), space.spec.dtype])
        for space in spaces
    )
    found = compare(
        store,
        dataset=dataset,
        features=[features],
        heads=QUICK,
        options=replace(options, most_rows=MOST_ROWS),
        progress=progress,
    )
    if options.class_weight is None:
        paired = mcnemar(found.tries[0].evaluation, found.tries[1].evaluation)
        return Choice(found.tries, "accuracy", paired.difference, found.has_winner, found.notes)
    tries = tuple(sorted(found.tries, key=lambda one: -one.evaluation.balanced_accuracy))
    lead, chance = _balanced_lead(tries[0].evaluation, tries[1].evaluation)
    pairs = len(tries) * (len(tries) - 1) / 2
    return Choice(tries, "balanced_accuracy", lead, chance * pairs < 0.05, found.notes)


def abstention_of(
    store: Store, spaces: Sequence[Space], train: Samples, plan: HeadPlan, wanted: float
) -> tuple[Abstention, tuple[str, ...]]:
    """Chooses from which probability on a head of ``plan`` answers, by what it says of held-out training images.

    The second is what should be said of it.
    """
    part, notes = manageable(train, sum(space.spec.width for space in spaces), MOST_ROWS)
    codes = np.unique(part.labels.astype(str), return_inverse=True)[1]
    held = _held_out(store, spaces, part, codes, plan)
    chosen = choose_abstention(held.probabilities[held.told], codes[held.told], wanted)
    return chosen, (*notes, chosen.sentence)


def _held_out(store: Store, spaces: Sequence[Space], part: Samples, codes: NDArray[np.intp], plan: HeadPlan) -> HeldOut:
    if isinstance(plan.head, str):
        (held,), _ = results_of(spaces, [plan], part, KeptResults(store.path, part), lambda: None)
        return held
    # What an estimator is like is not told by its name, so that nothing can be kept of it.
    return hold_out(gather(spaces, part.keys), codes, part.groups, plan)


def _worth(one: Try, measure: str) -> float:
    return one.evaluation.accuracy.value if measure == "accuracy" else one.evaluation.balanced_accuracy


def _balanced_lead(first: Evaluation, second: Evaluation) -> tuple[Interval, float]:
    """Returns the difference of the mean recalls on the same images, and how often chance makes so great a one."""
    counts = np.bincount(first.labels)
    weights = first.n / (np.count_nonzero(counts) * counts[first.labels])
    parts = weights * ((first.predicted == first.labels) * 1.0 - (second.predicted == second.labels))
    mean, error = float(parts.mean()), float(parts.std()) / sqrt(first.n)
    chance = erfc(abs(mean) / error / sqrt(2)) if error else 1.0
    return Interval(mean, mean - Z95 * error, mean + Z95 * error), chance
