"""Multinomial logistic regression, the default head: its whole path of regularisation for the price of one fit."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penult.cores import usable_cores
from penult.errors import HeadError
from penult.pipeline.heads.logistic.penalised import Penalised, Solution
from penult.pipeline.heads.numerics.basis import Basis
from penult.pipeline.heads.numerics.blocks import calm_blas
from penult.pipeline.heads.numerics.folds import assign_folds, sample
from penult.pipeline.heads.numerics.linear import LinearHead, class_weights

__all__ = ["MANY_CLASSES", "Found", "LogisticPath", "approach", "choose_penalty"]


TOLERANCE = 3e-7
NEARBY_TOLERANCE = 4e-5
LITTLE_WORK = 2_000_000

MUCH_WORK = 20_000_000_000
"""Beyond so many multiplications a pass takes a second: the end is not awaited."""

MUCH_WORK_TOLERANCE = 1e-5

MANY_CLASSES_TOLERANCE = 1e-4
"""Many classes with few rows each are told apart long before their objective is at its end."""


class LogisticPath(LinearHead):
    """Logistic regression on standardised features whose ``C`` is chosen by held-out log-loss along a path.

    ``C`` means what it means in scikit-learn: the penalty is half the squared coefficients (for standardised
    features), the data term ``C`` times the summed loss, and the intercept is free. None, the default, walks from
    strong to weak penalties in half decades and stops when the held-out loss has risen twice. ``device`` is one of
    torch's, as ``cuda``, to make the passes over the rows there; None is the CPU without torch. Of a hundred
    classes or more the path is that of a hundred of them.

    Attributes: ``C_``, ``path_`` (rows of C, held-out log-loss), ``objective_`` (mean loss and penalty at the
    solution), ``gap_`` (how far that may lie above the optimum, relative), ``n_iter_`` (passes over the rows). The
    objective is within 1e-4 of the optimum, unless a pass takes more than a second or there are a hundred classes
    or more: then ``gap_`` alone tells how near it came.
    """

    def __init__(
        self,
        C: float | None = None,
        *,
        n_folds: int = 5,
        class_weight: str | dict[Any, float] | None = None,
        random_state: int = 0,
        n_jobs: int | None = None,
        device: str | None = None,
    ) -> None:
        self.C = C
        self.n_folds = n_folds
        self.class_weight = class_weight
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.device = device

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        basis: Basis | None = None,
        start: LinearHead | None = None,
    ) -> Self:
        """Fits on X (n, D) and y (n); ``groups`` are held out whole; ``basis`` is that of these very rows if known.

        With a ``C`` and a fitted head of the same classes to ``start`` from, a few passes over the rows are enough
        where few labels or rows have changed.
        """
        features, codes = self._checked(X, y)
        self._check(features, start)
        threads = self.n_jobs or (1 if features.size * len(self.classes_) < LITTLE_WORK else usable_cores())
        with calm_blas(threads):
            basis = basis or self._basis(features)
        with calm_blas():
            weights = class_weights(self.class_weight, self.classes_, np.bincount(codes))
            problem = Penalised.of(features, codes, basis, weights, threads=threads)
            problem = problem if self.device is None else problem.moved_to(self.device)
            if self.C is None:
                folds = assign_folds(codes, groups, n_folds=self.n_folds, seed=self.random_state)
                found = choose_penalty(problem, folds, seed=self.random_state)
            else:
                found = Found(replace(problem.zero, penalty=problem.to_c(self.C)), {})
            begin = found.start
            if start is not None:
                begin = replace(begin, model=np.column_stack(basis.from_raw(start.coef_, start.intercept_)))
            elif len(self.classes_) >= MANY_CLASSES:
                begin = approach(problem, begin.penalty)
            tolerance = self._tolerance(features.size, is_nearby=start is not None)
            (solution,) = problem.solve([begin], begin.penalty, tolerance=tolerance)
        self.C_ = problem.to_c(solution.penalty)
        tried = sorted(found.tried.items(), reverse=True)
        self.path_ = np.array([(problem.to_c(penalty), loss) for penalty, loss in tried])
        self.objective_, self.gap_, self.n_iter_ = solution.objective, solution.gap, problem.passes
        self.coef_, self.intercept_ = basis.to_raw(solution.model[:, :-1], solution.model[:, -1])
        return self

    def _basis(self, features: NDArray[np.floating]) -> Basis:
        if self.device is None or len(features) <= features.shape[1]:
            return Basis.of(features)
        from penult.pipeline.heads.logistic.device import moments_on

        return Basis.of_moments(moments_on(self.device, features))

    def _tolerance(self, values: int, *, is_nearby: bool) -> float:
        if len(self.classes_) >= MANY_CLASSES:
            return MANY_CLASSES_TOLERANCE
        if is_nearby:
            return NEARBY_TOLERANCE
        return TOLERANCE if values * len(self.classes_) < MUCH_WORK else MUCH_WORK_TOLERANCE

    def _check(self, features: NDArray[np.floating], start: LinearHead | None) -> None:
        if self.C is not None and not 0 < self.C < np.inf:
            raise HeadError(f"C is {self.C!r}", expected="a number above 0 that is finite, or None to search for it")
        if start is not None and start.coef_.shape != (len(self.classes_), features.shape[1]):
            raise HeadError(
                f"the head to start from has {start.coef_.shape[0]} classes and {start.coef_.shape[1]} features",
                expected=f"{len(self.classes_)} classes and {features.shape[1]} features",
                remedy="train without a head to start from",
            )


HALF_DECADE = 10**0.5
WEAKEST = 1e-8
PATH_TOLERANCE = 1e-3

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
            starts = self.problem.solve(starts, penalty, folds=used, tolerance=PATH_TOLERANCE)
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
