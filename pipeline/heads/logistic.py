"""Multinomial logistic regression, the default head: its whole path of regularisation for the price of one fit."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penult.errors import HeadError
from penult.pipeline.heads.basis import Basis
from penult.pipeline.heads.blocks import calm_blas, usable_cores
from penult.pipeline.heads.folds import assign_folds
from penult.pipeline.heads.linear import LinearHead, class_weights
from penult.pipeline.heads.path import MANY_CLASSES, Found, approach, choose_penalty
from penult.pipeline.heads.penalised import Penalised

__all__ = ["LogisticPath"]

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
        from penult.pipeline.heads.device import moments_on

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
