"""The metrics of a head for numbers or tags on test images, each with its 95 % interval."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.evaluation.intervals import Interval

__all__ = ["NumberEvaluation", "TagEvaluation", "bootstrap"]

RESAMPLES = 1000
THRESHOLD = 0.5

Figure = Callable[[NDArray[np.intp]], float]


def bootstrap(figure: Figure, n: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Returns ``figure`` of all n rows with its 95 % percentile bootstrap interval.

    >>> values = np.arange(100.0)
    >>> str(bootstrap(lambda rows: float(values[rows].mean()), 100))
    '49.5000 [43.8193, 54.9505]'
    """
    chance = np.random.default_rng(seed)
    drawn = [figure(chance.integers(0, n, n)) for _ in range(resamples)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Interval(figure(np.arange(n)), float(low), float(high))


@dataclass(frozen=True)
class NumberEvaluation:
    """True and predicted numbers (n) with their image keys, and ``usual``, the mean of the training images."""

    statements: ClassVar[tuple[str, ...]] = ()

    name: str
    keys: NDArray[np.uint8]
    true: NDArray[np.float64]
    predicted: NDArray[np.float64]
    usual: float

    @property
    def n(self) -> int:
        """The number of evaluated images."""
        return len(self.true)

    @cached_property
    def r2(self) -> Interval:
        """The explained share of the variance; always predicting the mean of the test images gives 0."""
        return bootstrap(self._r2, self.n)

    @cached_property
    def mae(self) -> Interval:
        """The mean absolute error."""
        off = np.abs(self.true - self.predicted)
        return bootstrap(lambda rows: float(off[rows].mean()), self.n)

    @cached_property
    def rmse(self) -> Interval:
        """The root mean squared error."""
        squares = (self.true - self.predicted) ** 2
        return bootstrap(lambda rows: float(np.sqrt(squares[rows].mean())), self.n)

    @property
    def usual_mae(self) -> float:
        """The mean absolute error of always predicting the mean of the training images."""
        return float(np.abs(self.true - self.usual).mean())

    def _r2(self, rows: NDArray[np.intp]) -> float:
        true, off = self.true[rows], (self.true - self.predicted)[rows]
        spread = float(((true - true.mean()) ** 2).sum())
        return 1 - float((off**2).sum()) / spread if spread > 0 else np.nan

    def summary(self) -> dict[str, Any]:
        """Returns the metrics as plain values, without the rows per image."""
        return {**_plain(r2=self.r2, mae=self.mae, rmse=self.rmse), "usual_mae": self.usual_mae, "n": self.n}

    @property
    def sentence(self) -> str:
        """The metrics in one sentence."""
        return (
            f"R² {_formatted(self.r2)}, mean absolute error {_formatted(self.mae)} "
            f"(always predicting {self.usual:.4g} gives {self.usual_mae:.4g}), "
            f"root mean squared error {_formatted(self.rmse)}"
        )


@dataclass(frozen=True)
class TagEvaluation:
    """The true tags of images (n, T) and the predicted probabilities (n, T)."""

    statements: ClassVar[tuple[str, ...]] = ()

    names: tuple[str, ...]
    keys: NDArray[np.uint8]
    true: NDArray[np.bool_]
    probabilities: NDArray[np.float64]

    @property
    def n(self) -> int:
        """The number of evaluated images."""
        return len(self.true)

    @cached_property
    def average_precisions(self) -> dict[str, float | None]:
        """The average precision of each tag; None where no test image has the tag."""
        everything = np.arange(self.n)
        found = [self._precision(everything, place) for place in range(len(self.names))]
        return {name: None if np.isnan(value) else float(value) for name, value in zip(self.names, found, strict=True)}

    @cached_property
    def mean_average_precision(self) -> Interval:
        """The mean average precision over the tags that some test image has."""
        places = range(len(self.names))
        return bootstrap(lambda rows: _mean([self._precision(rows, place) for place in places]), self.n, resamples=200)

    @cached_property
    def micro_f1(self) -> Interval:
        """F1 over all pairs of image and tag; a tag is predicted where its probability is above one half."""
        predicted = self.probabilities > THRESHOLD
        hits, both = (predicted & self.true).sum(axis=1), predicted.sum(axis=1) + self.true.sum(axis=1)
        return bootstrap(lambda rows: 2 * float(hits[rows].sum()) / max(1, float(both[rows].sum())), self.n)

    @cached_property
    def macro_f1(self) -> Interval:
        """The mean F1 over the tags that some image has or is predicted to have."""
        predicted = self.probabilities > THRESHOLD
        hits, both = predicted & self.true, predicted.astype(np.int64) + self.true

        def figure(rows: NDArray[np.intp]) -> float:
            some = both[rows].sum(axis=0)
            return float(np.mean((2 * hits[rows].sum(axis=0)[some > 0]) / some[some > 0])) if some.any() else np.nan

        return bootstrap(figure, self.n)

    @property
    def usual_precision(self) -> float:
        """The mean average precision of predicting the same for every image: the mean share of the tags."""
        shares = self.true.mean(axis=0)
        return float(shares[shares > 0].mean()) if shares.any() else 0.0

    def _precision(self, rows: NDArray[np.intp], place: int) -> float:
        """Returns the average precision of a tag on some rows; equal scores count as one step."""
        true, score = self.true[rows, place], self.probabilities[rows, place]
        if not true.any():
            return np.nan
        order = np.argsort(-score, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
        hits = np.cumsum(true[order])[ends]
        return float(np.sum(np.diff(hits, prepend=0) * hits / (ends + 1)) / true.sum())

    def summary(self) -> dict[str, Any]:
        """Returns the metrics as plain values, without the rows per image."""
        figures = {name: getattr(self, name) for name in ("mean_average_precision", "micro_f1", "macro_f1")}
        return {
            **_plain(**figures),
            "average_precisions": self.average_precisions,
            "usual_precision": self.usual_precision,
            "n": self.n,
        }

    @property
    def sentence(self) -> str:
        """The metrics in one sentence."""
        return (
            f"mean average precision {_formatted(self.mean_average_precision)} (predicting the same for every image "
            f"gives {self.usual_precision:.4g}), F1 {_formatted(self.micro_f1)} over all tags and "
            f"{_formatted(self.macro_f1)} per tag"
        )


def _plain(**figures: Interval) -> dict[str, Any]:
    return {name: {"value": figure.value, "low": figure.low, "high": figure.high} for name, figure in figures.items()}


def _formatted(figure: Interval) -> str:
    return f"{figure.value:.4g} (95 % interval {figure.low:.4g} to {figure.high:.4g})"


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan
