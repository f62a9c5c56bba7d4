"""Multinomial logistic regression, the default head, with C chosen along a regularisation path."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penult.cores import usable_cores
from penult.errors import HeadError
from penult.pipeline.heads.logistic.penalised import Penalised, Solution
from penult.pipeline.heads.numerics.basis import Basis
from penult.pipeline.heads.numerics.blocks import limit_blas_threads
from penult.pipeline.heads.numerics.folds import assign_folds, sample
from penult.pipeline.heads.numerics.linear import LinearHead, class_weights

__all__ = ["MANY_CLASSES", "ChosenPenalty", "LogisticPath", "approach", "choose_penalty"]


TOLERANCE = 3e-7
NEARBY_TOLERANCE = 4e-5
LITTLE_WORK = 2_000_000

MUCH_WORK = 20_000_000_000
"""With more multiplications than this, a pass takes a second, and a larger tolerance is used."""

MUCH_WORK_TOLERANCE = 1e-5

MANY_CLASSES_TOLERANCE = 1e-4
"""Many classes with few rows each are separated long before the objective converges."""


class LogisticPath(LinearHead):
    """Logistic regression on standardised features whose ``C`` is chosen by held-out log-loss along a path.

    ``C`` has scikit-learn's meaning: the penalty is half the squared coefficients (for standardised features), the data
    term is ``C`` times the summed loss, and the intercept is not penalised. With the default ``C=None``, the penalty
    falls in half decades until the held-out loss has risen twice. ``device`` is a torch device such as ``cuda`` for
    the passes over the rows; None uses the CPU without torch. With a hundred classes or more, C is chosen on a
    hundred of them.

    Attributes: ``C_``, ``path_`` (rows of C, held-out log-loss), ``objective_`` (mean loss and penalty at the
    solution), ``gap_`` (a bound of its relative distance to the optimum), ``n_iter_`` (passes over the rows). The
    objective is within 1e-4 of the optimum, unless a pass takes more than a second or there are a hundred classes
    or more; see ``gap_`` then.
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
        """Fits on X (n, D) and y (n); a group is held out as a whole; ``basis`` is a basis of these rows, if known.

        ``start`` is a fitted head of the same classes. With a fixed ``C`` and few changed labels or rows, a few passes
        are then enough.
        """
        features, codes = self._checked(X, y)
        self._check(features, start)
        threads = self.n_jobs or (1 if features.size * len(self.classes_) < LITTLE_WORK else usable_cores())
        with limit_blas_threads(threads):
            basis = basis or self._basis(features)
        with limit_blas_threads():
            weights = class_weights(self.class_weight, self.classes_, np.bincount(codes))
            problem = Penalised.of(features, codes, basis, weights, threads=threads)
            problem = problem if self.device is None else problem.moved_to(self.device)
            if self.C is None:
                folds = assign_folds(codes, groups, n_folds=self.n_folds, seed=self.random_state)
                found = choose_penalty(problem, folds, seed=self.random_state)
            else:
                found = ChosenPenalty(replace(problem.zero, penalty=problem.to_c(self.C)), {})
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
            raise HeadError(f"C is {self.C!r}", expected="a finite number above 0, or None to search for it")
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
"""Consecutive worse penalties that end the walk; one is enough if a sample has shown the shape of the path."""

WORTHWHILE, WORTHWHILE_NATS = 5e-4, 2e-4
"""A smaller decrease of the held-out loss is noise; on separable classes it would continue for decades."""

SAMPLE_ROWS = 4096
"""The rows of the coarse walk, if there are at least twice as many."""

MANY_CLASSES = 100
"""With this number of classes or more, the penalty is chosen on this number of them, with some forty rows each."""

DECADE = 10.0
ROUGHLY = 1e-2
"""The tolerance for the penalties on the way to a weak one."""


@dataclass(frozen=True)
class ChosenPenalty:
    """The best penalty with a model to start from, and the held-out loss of all tried penalties."""

    start: Solution
    tried: dict[float, float]


@dataclass
class PenaltyWalk:
    """Tries penalties in sequence on the same folds, each from the models of the previous penalty."""

    problem: Penalised
    tried: dict[float, list[Solution]]

    @property
    def losses(self) -> dict[float, float]:
        """The mean held-out loss of each tried penalty."""
        out = self.problem.loss.folds >= 0
        total = float(self.problem.loss.weights[out].sum(dtype=np.float64))
        return {penalty: sum(part.held_out for part in parts) / total for penalty, parts in self.tried.items()}

    def follow(self, starts: list[Solution], penalty: float, factor: float, patience: int) -> float:
        """Multiplies ``penalty`` by ``factor`` until the held-out loss no longer improves; returns the best penalty."""
        used = sorted(set(self.problem.loss.folds[self.problem.loss.folds >= 0].tolist()))
        best, worse = penalty, 0
        while penalty > WEAKEST and worse < patience:
            starts = self.problem.solve(starts, penalty, folds=used, tolerance=PATH_TOLERANCE)
            self.tried[penalty] = starts
            losses = self.losses
            is_better = penalty == best or losses[penalty] < losses[best] * (1 - WORTHWHILE) - WORTHWHILE_NATS
            best, worse = (penalty, 0) if is_better else (best, worse + 1)
            penalty *= factor
        return best

    def found(self, best: float) -> ChosenPenalty:
        """Returns the mean of the folds' models at the best penalty, with the curvature pairs of one fold."""
        parts = self.tried[best]
        start = Solution(np.mean([part.model for part in parts], axis=0), best, pairs=parts[0].pairs)
        return ChosenPenalty(start, self.losses)


def choose_penalty(problem: Penalised, folds: NDArray[np.intp], *, seed: int) -> ChosenPenalty:
    """Chooses the penalty with the lowest cross-validated loss."""
    whole = Penalised(problem.basis, replace(problem.loss, folds=folds))
    n_folds = len(set(folds[folds >= 0].tolist()))
    if not n_folds:
        raise HeadError(
            f"each of the {problem.loss.n_classes} classes has one row, so no row can be held out to choose C",
            expected="a class with at least two rows",
            remedy="fix C, or label more images",
        )
    if problem.loss.n_classes >= MANY_CLASSES:
        found = _choose_on_classes(whole, seed)
        problem.passes += whole.passes
        return found
    walk = PenaltyWalk(whole, {})
    if len(folds) < 2 * SAMPLE_ROWS:
        best = walk.follow([problem.zero] * n_folds, problem.strongest, 1 / HALF_DECADE, PATIENCE)
    else:
        part = whole.restricted(sample(problem.loss.codes, SAMPLE_ROWS, seed=seed))
        coarse = choose_penalty(part, part.loss.folds, seed=seed)
        starts = [coarse.start] * n_folds
        best = walk.follow(starts, coarse.start.penalty, 1 / HALF_DECADE, 1)
        if best == coarse.start.penalty:
            stronger = walk.follow(walk.tried[best], best * HALF_DECADE, HALF_DECADE, 1)
            best = stronger if walk.losses[stronger] < walk.losses[best] else best
    problem.passes += whole.passes
    return walk.found(best)


def _choose_on_classes(whole: Penalised, seed: int) -> ChosenPenalty:
    """Chooses C on a sample of frequent and rare classes.

    The best C depends on the rows of a class and of similar classes, and not on the number of other classes.
    """
    codes, n_classes = whole.loss.codes, whole.loss.n_classes
    counts, out = np.bincount(codes), np.bincount(codes[whole.loss.folds >= 0], minlength=n_classes)
    order = np.lexsort((-counts, out == 0))
    usable = max(MANY_CLASSES, int(np.count_nonzero(out)))
    indices = np.linspace(0, usable - 1, MANY_CLASSES).round().astype(int)
    part = whole.among(order[indices], SAMPLE_ROWS, seed=seed)
    n_folds = len(set(part.loss.folds[part.loss.folds >= 0].tolist()))
    walk = PenaltyWalk(part, {})
    best = walk.follow([part.zero] * n_folds, part.strongest, 1 / HALF_DECADE, PATIENCE)
    whole.passes += part.passes
    share = whole.to_c(1.0) / part.to_c(1.0)
    chosen = replace(whole.zero, penalty=best * share)
    return ChosenPenalty(chosen, {penalty * share: loss for penalty, loss in walk.losses.items()})


def approach(problem: Penalised, penalty: float) -> Solution:
    """Returns a starting point for a weak penalty by solving stronger penalties roughly."""
    solution = problem.zero
    for step in range(int(np.log10(problem.strongest / penalty)), 0, -1):
        (solution,) = problem.solve([solution], penalty * DECADE**step, tolerance=ROUGHLY)
    return solution.moved_to(penalty)
