"""Chooses the head for "auto", and the threshold below which a head answers "unsure", on held-out training images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from penult.defaults import MEASURES, QUICK_HEADS
from penult.pipeline.comparing.compare import Try, compare
from penult.pipeline.comparing.held_out import HeldOutCache, limit_rows
from penult.pipeline.comparing.options import CompareOptions
from penult.pipeline.evaluation.abstention import Abstention, choose_abstention
from penult.pipeline.evaluation.intervals import Interval
from penult.pipeline.evaluation.measures import Measure, lead_of
from penult.pipeline.heads.out_of_fold import HeadPlan
from penult.pipeline.progress import Progress
from penult.pipeline.samples.rows import Samples
from penult.store import Space, Store
from penult.store.features import features_text

__all__ = ["HeadChoice", "abstention_of", "choose_head"]

# With this many held-out images, a difference of half a point is significant. More would only take longer.
MOST_ROWS = 20_000


@dataclass(frozen=True)
class HeadChoice:
    """The quick heads, the best first, and its lead over the second on the same held-out training images.

    ``measure`` is accuracy, or balanced accuracy with balanced class weights. ``is_real`` says whether the best is
    significantly better than all others.
    """

    tries: tuple[Try, ...]
    measure: Measure
    lead: Interval
    is_real: bool
    notes: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """The name of the chosen head."""
        return self.tries[0].head

    @property
    def sentence(self) -> str:
        """The choice and its evidence in one sentence."""
        best, second = self.tries[:2]
        others = ", ".join(f"{one.head} {one.figure.value:.1%}" for one in self.tries[1:])
        verdict = "a significant difference" if self.is_real else "which may be due to chance"
        ahead, low, high = (100 * value for value in (self.lead.value, self.lead.low, self.lead.high))
        article = "an" if self.measure == "accuracy" else "a"
        return (
            f"{self.head} was chosen from the quick heads, with {article} {MEASURES[self.measure]} of "
            f"{best.figure.value:.1%} on {best.evaluation.n:,} held-out training images ({others}): {ahead:.1f} points "
            f"ahead of {second.head} (95 % interval {low:.1f} to {high:.1f}), {verdict}."
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the choice as plain data."""
        return {
            "measure": self.measure,
            "n": self.tries[0].evaluation.n,
            "tried": {one.head: one.figure.value for one in self.tries},
            "lead": vars(self.lead),
            "is_real": self.is_real,
        }


def choose_head(
    store: Store, dataset: str, spaces: Sequence[Space], options: CompareOptions, progress: Progress | None = None
) -> HeadChoice:
    """Compares the quick heads on held-out training images, as `compare` does, and returns the best.

    Results that `compare` has cached are not computed again.
    """
    found = compare(
        store,
        dataset=dataset,
        features=[features_text([space.spec for space in spaces])],
        heads=QUICK_HEADS,
        options=replace(options, most_rows=MOST_ROWS),
        progress=progress,
    )
    first, second = (one.evaluation for one in found.tries[:2])
    lead = lead_of(first, second, found.measure)
    return HeadChoice(found.tries, found.measure, lead, found.has_winner, found.notes)


def abstention_of(
    store: Store, spaces: Sequence[Space], train: Samples, plan: HeadPlan, wanted: float
) -> tuple[Abstention, tuple[str, ...]]:
    """Returns the probability from which the head of ``plan`` answers, chosen on held-out training images, and notes.

    ``wanted`` is the share of answers that must be correct.
    """
    part, notes = limit_rows(train, sum(space.spec.width for space in spaces), MOST_ROWS)
    cache = HeldOutCache(store, part)
    held = cache.predictions(spaces, plan)
    chosen = choose_abstention(held.probabilities[held.was_held_out], cache.codes[held.was_held_out], wanted)
    return chosen, (*notes, chosen.sentence)
