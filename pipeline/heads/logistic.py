"""Multinomial logistic regression, the default head: its whole path of regularisation for the price of one fit."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penult.errors import HeadError
from penult.pipeline.heads.basis import Basis
from penult.pipeline.heads.blocks import calm_blas, standardised, usable_cores
from penult.pipeline.heads.descent import Descent
from penult.pipeline.heads.folds import assign_folds
from penult.pipeline.heads.linear import LinearHead, class_weights
from penult.pipeline.heads.lockstep import Lockstep

__all__ = ["LogisticPath"]

ALPHA = 0.15
"""The share of a direction's variance taken as the loss's curvature along it; p (1 - p) is 0.25 at most."""

HALF_DECADE = 10**0.5
WEAKEST = 1e-8
PATIENCE = 2
WORTHWHILE = 1e-3
WORTHWHILE_NATS = 5e-4
"""A smaller fall of the held-out loss is noise; on separable classes it would go on for decades."""

PATH_TOLERANCE = 1e-3
FINAL_TOLERANCE = 1e-7
LITTLE_WORK = 2_000_000


class LogisticPath(LinearHead):
    """Logistic regression on standardised features whose ``C`` is chosen by held-out log-loss along a path.

    ``C`` means what it means in scikit-learn: the penalty is half the squared coefficients (for standardised
    features), the data term ``C`` times the summed loss, and the intercept is free. None, the default, walks from
    strong to weak penalties in half decades and stops when the held-out loss has risen twice.

    Attributes: ``C_``, ``path_`` (rows of C, held-out log-loss), ``objective_`` (mean loss and penalty at the
    solution), ``gap_`` (the decrease still expected, relative), ``n_iter_`` (passes over the rows).
    """

    def __init__(
        self,
        C: float | None = None,
        *,
        n_folds: int = 5,
        class_weight: str | dict[Any, float] | None = None,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.C = C
        self.n_folds = n_folds
        self.class_weight = class_weight
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike, *, groups: ArrayLike | None = None, basis: Basis | None = None) -> Self:
        """Fits on X (n, D) and y (n); ``groups`` are held out whole; ``basis`` is that of these very rows if known."""
        features, codes = self._checked(X, y)
        if self.C is not None and not self.C > 0:
            raise HeadError(f"C is {self.C!r}", expected="a number above 0, or None to search for it")
        with calm_blas():
            problem = Problem.of(features, codes, basis, self)
            self.path_ = np.empty((0, 2))
            start = problem.zero
            if self.C is None:
                folds = assign_folds(codes, groups, n_folds=self.n_folds, seed=self.random_state)
                penalty, start, steps = problem.walk(folds)
                self.path_ = np.array([(problem.to_c(step), loss) for step, loss in steps])
            else:
                penalty = problem.to_penalty(self.C)
            descent = problem.solve(penalty, start)
        self.C_ = problem.to_c(penalty)
        self.objective_, self.gap_ = descent.value, descent.expected / descent.value
        self.n_iter_ = problem.passes
        model = descent.point.reshape(problem.zero.shape)
        self.coef_, self.intercept_ = problem.basis.to_raw(model[:, :-1], model[:, -1])
        return self


@dataclass(frozen=True)
class Step:
    """One penalty of the path, the held-out log-loss there, and the models of the folds."""

    penalty: float
    held_out: float
    models: list[NDArray[np.float64]]

    def is_better_than(self, other: "Step") -> bool:
        """Whether the loss fell by enough to be worth a weaker penalty."""
        return self.held_out < other.held_out * (1 - WORTHWHILE) - WORTHWHILE_NATS


@dataclass
class Problem:
    """The rows in a basis, the curvature guess, and the way between scikit-learn's C and a penalty on the mean loss."""

    basis: Basis
    loss: Lockstep
    total_weight: float
    passes: int = 0

    @classmethod
    def of(
        cls, features: NDArray[np.floating], codes: NDArray[np.intp], basis: Basis | None, options: LogisticPath
    ) -> Self:
        """Standardises the rows, and rotates them where the basis is smaller than they are wide."""
        basis = basis or Basis.of(features)
        rows = standardised(features, basis.mean, basis.scale)
        axes = basis.axes.astype(np.float32)
        is_smaller = basis.rank < rows.shape[1]
        if is_smaller:
            rows = rows @ axes
        n_classes = len(options.classes_)
        of_class = class_weights(options.class_weight, options.classes_, np.bincount(codes))
        weights = of_class[codes].astype(np.float32)
        little = rows.size * n_classes < LITTLE_WORK
        threads = options.n_jobs or (1 if little else usable_cores())
        loss = Lockstep(rows, codes, weights, np.full(len(codes), -1), n_classes, None if is_smaller else axes, threads)
        return cls(basis, loss, float(weights.sum(dtype=np.float64)))

    @property
    def zero(self) -> NDArray[np.float64]:
        """The model (C, r + 1) that knows nothing; the last column is the intercept."""
        return np.zeros((self.loss.n_classes, self.basis.rank + 1))

    @property
    def _doubling(self) -> int:
        # Two opposite rows of a softmax carry half the squared length of scikit-learn's one row for two classes.
        return 2 if self.loss.n_classes == 2 else 1

    def to_c(self, penalty: float) -> float:
        """Returns scikit-learn's C for a penalty on the mean loss."""
        return self._doubling / (penalty * self.total_weight)

    def to_penalty(self, c: float) -> float:
        """Returns the penalty on the mean loss for scikit-learn's C."""
        return self._doubling / (c * self.total_weight)

    def walk(self, folds: NDArray[np.intp]) -> tuple[float, NDArray[np.float64], list[tuple[float, float]]]:
        """Walks the path; returns the best penalty, the folds' mean model there, and all (penalty, held-out loss)."""
        loss = replace(self.loss, folds=folds)
        used = sorted(set(folds[folds >= 0].tolist()))
        n_out = float(self.loss.weights[folds >= 0].sum(dtype=np.float64))
        models = [self.zero for _ in used]
        penalty = self.strongest()
        best, steps, since = Step(penalty, np.inf, models), [], 0
        while penalty > WEAKEST and since < PATIENCE:
            descents, outside = self._descend(loss, models, penalty, list(used), PATH_TOLERANCE)
            models = [descent.point.reshape(self.zero.shape) for descent in descents]
            step = Step(penalty, sum(outside) / n_out, models)
            steps.append((step.penalty, step.held_out))
            since = 0 if step.is_better_than(best) else since + 1
            best = best if since else step
            penalty /= HALF_DECADE
        return best.penalty, np.mean(best.models, axis=0), steps

    def strongest(self) -> float:
        """Returns the penalty, a half decade, at which even the widest direction is held back."""
        return float(HALF_DECADE ** np.ceil(np.log(ALPHA * self.basis.spread[0]) / np.log(HALF_DECADE)))

    def solve(self, penalty: float, start: NDArray[np.float64]) -> Descent:
        """Minimises the mean loss of all rows plus the penalty, from ``start``."""
        descents, _ = self._descend(self.loss, [start], penalty, [None], FINAL_TOLERANCE)
        return descents[0]

    def _descend(
        self,
        loss: Lockstep,
        models: list[NDArray[np.float64]],
        penalty: float,
        held_out: list[int | None],
        tolerance: float,
    ) -> tuple[list[Descent], list[float]]:
        shape = self.zero.shape
        curvature = np.append(ALPHA * self.basis.spread + penalty, ALPHA)
        guess = np.broadcast_to(curvature, shape).ravel()
        descents = [Descent(model.ravel(), guess, tolerance=tolerance) for model in models]
        outside = [0.0] * len(models)
        while asking := [i for i, descent in enumerate(descents) if not descent.is_done]:
            trials = np.stack([descents[i].trial.reshape(shape) for i in asking])
            answers = loss.evaluate(trials, [held_out[i] for i in asking])
            self.passes += 1
            for i, trial, answer in zip(asking, trials, answers, strict=True):
                answer.gradient[:, :-1] += penalty * trial[:, :-1]
                value = answer.loss + penalty / 2 * float(np.vdot(trial[:, :-1], trial[:, :-1]))
                if descents[i].tell(value, answer.gradient.ravel()):
                    outside[i] = answer.held_out
        return descents, outside
