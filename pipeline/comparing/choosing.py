"""Which of the quick heads to train, and from which probability on it should answer: both by held-out images alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.comparing.cache import KeptResults
from penult.pipeline.comparing.compare import QUICK, CompareOptions, Try, compare, results_of
from penult.pipeline.comparing.sampling import manageable
from penult.pipeline.evaluation.abstention import Abstention, choose_abstention
from penult.pipeline.evaluation.intervals import Interval
from penult.pipeline.evaluation.measures import NAMES, Measure, lead_of
from penult.pipeline.evaluation.paired import mcnemar
from penult.pipeline.heads.out_of_fold import HeadPlan, OutOfFold, predict_out_of_fold
from penult.pipeline.progress import Progress
from penult.pipeline.samples.rows import Samples
from penult.store import Space, Store
from penult.store.features import gather

__all__ = ["Choice", "abstention_of", "choose_head"]

MOST_ROWS = 20_000
"""So many held-out images tell a difference of half a point; more would only take longer."""


@dataclass(frozen=True)
class Choice:
    """The quick heads, the best first, and how far it is ahead of the second on the same held-out training images.

    Each try has its ``measure``: the accuracy, or with balanced class weights the balanced accuracy.
    """

    tries: tuple[Try, ...]
    measure: Measure
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
        others = ", ".join(f"{one.head} {one.figure.value:.1%}" for one in self.tries[1:])
        verdict = "a real difference" if self.is_real else "which chance alone could make"
        ahead, low, high = (100 * value for value in (self.lead.value, self.lead.low, self.lead.high))
        return (
            f"{self.head} was chosen of the quick heads, with {self._named} of {best.figure.value:.1%} on "
            f"{best.evaluation.n:,} held-out training images ({others}): {ahead:.1f} points ahead of {second.head} "
            f"(95 % interval {low:.1f} to {high:.1f}), {verdict}."
        )

    @property
    def _named(self) -> str:
        return f"{'an' if self.measure == 'accuracy' else 'a'} {NAMES[self.measure]}"

    def to_json(self) -> dict[str, Any]:
        """Returns the choice as plain data."""
        return {
            "measure": self.measure,
            "n": self.tries[0].evaluation.n,
            "tried": {one.head: one.figure.value for one in self.tries},
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
    first, second = (one.evaluation for one in found.tries[:2])
    by_hits = found.measure == "accuracy"
    lead = mcnemar(first, second).difference if by_hits else lead_of(first, second, found.measure)
    return Choice(found.tries, found.measure, lead, found.has_winner, found.notes)


def abstention_of(
    store: Store, spaces: Sequence[Space], train: Samples, plan: HeadPlan, wanted: float
) -> tuple[Abstention, tuple[str, ...]]:
    """Chooses from which probability on a head of ``plan`` answers, by what it says of held-out training images.

    The second is what should be said of it.
    """
    part, notes = manageable(train, sum(space.spec.width for space in spaces), MOST_ROWS)
    codes = np.unique(part.labels.astype(str), return_inverse=True)[1]
    held = _held_out(store, spaces, part, codes, plan)
    chosen = choose_abstention(held.probabilities[held.was_held_out], codes[held.was_held_out], wanted)
    return chosen, (*notes, chosen.sentence)


def _held_out(
    store: Store, spaces: Sequence[Space], part: Samples, codes: NDArray[np.intp], plan: HeadPlan
) -> OutOfFold:
    if isinstance(plan.head, str):
        (held,), _ = results_of(spaces, [plan], part, KeptResults(store.path, part), lambda: None)
        return held
    # What an estimator is like is not told by its name, so that nothing can be kept of it.
    return predict_out_of_fold(gather(spaces, part.keys), codes, part.groups, plan)
