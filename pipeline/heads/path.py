"""The walk along penalties that finds the one with the least held-out loss, coarse on a sample before fine on all."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penult.errors import HeadError
from penult.pipeline.heads.folds import sample
from penult.pipeline.heads.penalised import Penalised, Solution

__all__ = ["MANY_CLASSES", "Found", "approach", "choose_penalty"]

HALF_DECADE = 10**0.5
WEAKEST = 1e-8
TOLERANCE = 1e-3

PATIENCE = 2
"""Worse penalties in a row that end the walk; one is enough where a sample has shown the shape of the path."""

WORTHWHILE, WORTHWHILE_NATS = 5e-4, 2e-4
"""A smaller fall of the held-out loss is noise; on separable classes it would go on for decades."""

SAMPLE_ROWS = 4096
"""The rows of the coarse walk, for sets at least twice as large."""

MANY_CLASSES = 100
"""Of so many classes or more, so many are told apart to choose a penalty: some forty rows of each, not a few."""

DECADE = 10.0
ROUGHLY = 1e-2
"""How closely the penalties on the way to a weak one are solved."""


@dataclass(frozen=True)
class Found:
    """The best penalty with a model to start from, and all penalties that were tried with their held-out loss."""

    start: Solution
    tried: dict[float, float]


@dataclass
class Walk:
    """Tries penalties one after the other on the same folds, each from the models of the one before."""

    problem: Penalised
    tried: dict[float, list[Solution]]

    @property
    def losses(self) -> dict[float, float]:
        """The mean held-out loss of each penalty that was tried."""
        out = self.problem.loss.folds >= 0
        total = float(self.problem.loss.weights[out].sum(dtype=np.float64))
        return {penalty: sum(part.held_out for part in parts) / total for penalty, parts in self.tried.items()}

    def go(self, starts: list[Solution], penalty: float, factor: float, patience: int) -> float:
        """Tries ``penalty`` and then ``factor`` times as much, again and again, until it is no longer worthwhile.

        Returns the best of these.
        """
        used = sorted(set(self.problem.loss.folds[self.problem.loss.folds >= 0].tolist()))
        best, since = penalty, 0
        while penalty > WEAKEST and since < patience:
            starts = self.problem.solve(starts, penalty, folds=used, tolerance=TOLERANCE)
            self.tried[penalty] = starts
            losses = self.losses
            is_better = penalty == best or losses[penalty] < losses[best] * (1 - WORTHWHILE) - WORTHWHILE_NATS
            best, since = (penalty, 0) if is_better else (best, since + 1)
            penalty *= factor
        return best

    def found(self, best: float) -> Found:
        """Returns the mean of the folds' models at the best penalty; what one fold learned helps there too."""
        parts = self.tried[best]
        start = Solution(np.mean([part.model for part in parts], axis=0), best, pairs=parts[0].pairs)
        return Found(start, self.losses)


def choose_penalty(problem: Penalised, folds: NDArray[np.intp], *, seed: int) -> Found:
    """Finds the penalty on the mean loss that gives the rows of each fold the least loss by the others' models."""
    whole = Penalised(problem.basis, replace(problem.loss, folds=folds))
    n_folds = len(set(folds[folds >= 0].tolist()))
    if not n_folds:
        raise HeadError(
            f"each of the {problem.loss.n_classes} classes has one row, so that none can be held out to choose C",
            expected="two rows of some class",
            remedy="fix C, or label more images",
        )
    if problem.loss.n_classes >= MANY_CLASSES:
        found = _choose_on_classes(whole, seed)
        problem.passes += whole.passes
        return found
    walk = Walk(whole, {})
    if len(folds) < 2 * SAMPLE_ROWS:
        best = walk.go([problem.zero] * n_folds, problem.strongest, 1 / HALF_DECADE, PATIENCE)
    else:
        part = whole.restricted(sample(problem.loss.codes, SAMPLE_ROWS, seed=seed))
        coarse = choose_penalty(part, part.loss.folds, seed=seed)
        starts = [coarse.start] * n_folds
        best = walk.go(starts, coarse.start.penalty, 1 / HALF_DECADE, 1)
        if best == coarse.start.penalty:
            stronger = walk.go(walk.tried[best], best * HALF_DECADE, HALF_DECADE, 1)
            best = stronger if walk.losses[stronger] < walk.losses[best] else best
    problem.passes += whole.passes
    return walk.found(best)


def _choose_on_classes(whole: Penalised, seed: int) -> Found:
    """Chooses on some classes, frequent and rare ones alike, what C they want: all classes want the same.

    C says how far from zero the coefficients of a class may lie, which is up to its own rows and to its neighbours',
    and not to how many other classes there are.
    """
    codes, n_classes = whole.loss.codes, whole.loss.n_classes
    counts, out = np.bincount(codes), np.bincount(codes[whole.loss.folds >= 0], minlength=n_classes)
    order = np.lexsort((-counts, out == 0))
    usable = max(MANY_CLASSES, int(np.count_nonzero(out)))
    places = np.linspace(0, usable - 1, MANY_CLASSES).round().astype(int)
    part = whole.among(order[places], SAMPLE_ROWS, seed=seed)
    n_folds = len(set(part.loss.folds[part.loss.folds >= 0].tolist()))
    walk = Walk(part, {})
    best = walk.go([part.zero] * n_folds, part.strongest, 1 / HALF_DECADE, PATIENCE)
    whole.passes += part.passes
    share = whole.to_c(1.0) / part.to_c(1.0)
    chosen = replace(whole.zero, penalty=best * share)
    return Found(chosen, {penalty * share: loss for penalty, loss in walk.losses.items()})


def approach(problem: Penalised, penalty: float) -> Solution:
    """Returns where to start from for a weak penalty: where stronger ones, each solved roughly, lead to."""
    solution = problem.zero
    for step in range(int(np.log10(problem.strongest / penalty)), 0, -1):
        (solution,) = problem.solve([solution], penalty * DECADE**step, tolerance=ROUGHLY)
    return solution.moved_to(penalty)
