"""Moments and principal axes of features; they do not depend on labels and can be reused for new labels."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.linalg.blas import dsyrk
from scipy.sparse import csr_array

from penult.pipeline.heads.numerics.blocks import BLOCK, Matrix, standardised
from penult.pipeline.heads.numerics.folds import sample

__all__ = ["Basis", "Moments", "RotatedRows", "moments_of"]


NEGLIGIBLE = 1e-10
"""Directions with less than this share of the largest variance contain only rounding errors."""


@dataclass(frozen=True)
class Moments:
    """The number of rows, their mean (D), and their scatter about it (D, D), in float64."""

    n: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @property
    def scale(self) -> NDArray[np.float64]:
        """The standard deviation of each column; 1 for a constant column."""
        return scale_of(np.diag(self.scatter) / self.n, self.mean)

    def joined(self, other: "Moments") -> "Moments":
        """Returns the moments of the union of both sets of rows."""
        n = self.n + other.n
        apart = other.mean - self.mean
        between = np.outer(apart, apart) * (self.n * other.n / n)
        return Moments(n, self.mean + apart * (other.n / n), self.scatter + other.scatter + between)

    def without(self, other: "Moments") -> "Moments":
        """Returns the moments of the rows without ``other``, a subset of them."""
        n = self.n - other.n
        mean = (self.mean * self.n - other.mean * other.n) / n
        apart = other.mean - mean
        between = np.outer(apart, apart) * (n * other.n / self.n)
        return Moments(n, mean, self.scatter - other.scatter - between)


@dataclass(frozen=True)
class Basis:
    """Orthonormal ``axes`` (D, r) of the standardised rows, and the variances ``spread`` (r) along them.

    The axes are the eigenvectors of the columns' correlation, in order of falling ``spread``. If ``is_exact`` is False,
    they are the eigenvectors of nearly the same rows: good enough for a descent, but not for a closed form.
    """

    n: int
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    spread: NDArray[np.float64]
    axes: NDArray[np.float64]
    is_exact: bool = True

    @classmethod
    def of(cls, features: Matrix) -> "Basis":
        """Returns the basis of ``features``; with fewer rows than columns it is computed from the rows' Gram matrix."""
        n, width = features.shape
        if n > width:
            return cls.of_moments(moments_of(features))
        mean, scale = mean_and_scale(features)
        rows = standardised(features, mean, scale).astype(np.float64)
        values, vectors = eigh(rows @ rows.T / n)
        kept = _kept(values)
        spread = values[kept]
        return cls(n, mean, scale, spread, np.ascontiguousarray(rows.T @ vectors[:, kept] / np.sqrt(n * spread)))

    @classmethod
    def of_moments(cls, moments: Moments) -> "Basis":
        """Returns the basis of rows with these moments."""
        scale = moments.scale
        values, vectors = eigh(moments.scatter / moments.n / np.outer(scale, scale))
        kept = _kept(values)
        # The same memory layout as after reading from a file: the layout decides how products round.
        return cls(moments.n, moments.mean, scale, values[kept], np.ascontiguousarray(vectors[:, kept]))

    def changed(self, squares: NDArray[np.float64], added: NDArray[np.floating], removed: NDArray[np.floating]) -> Self:
        """Returns the basis with its axes unchanged, and the mean and scale after rows were added and removed.

        ``squares`` are the sums of squares about the mean before the change. A few rows change the axes so little that
        a descent is as fast.
        """
        n, mean = self.n, self.mean
        for rows, sign in ((added, 1), (removed, -1)):
            if not len(rows):
                continue
            own, own_squares = mean_and_squares(rows)
            total, apart = n + sign * len(rows), own - mean
            squares = squares + sign * own_squares + sign * apart**2 * (n * len(rows) / total)
            mean = mean + sign * apart * (len(rows) / total)
            n = total
        return replace(self, n=n, mean=mean, scale=scale_of(squares / n, mean), is_exact=False)

    def from_raw(
        self, weights: NDArray[np.float64], intercept: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Projects a linear model on raw features, (C, D) and (C), onto the basis, (C, r) and (C)."""
        return (weights * self.scale) @ self.axes, intercept + weights @ self.mean

    @property
    def rank(self) -> int:
        """The number of directions with variance."""
        return len(self.spread)

    def to_raw(
        self, weights: NDArray[np.float64], intercept: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Converts a linear model on the basis, (C, r) and (C), to raw features, (C, D) and (C)."""
        raw = weights @ self.axes.T / self.scale
        return raw, intercept - raw @ self.mean


def moments_of(features: Matrix) -> Moments:
    """Returns the moments of all rows from one float64 pass; a shift by the first block's mean avoids cancellation."""
    n, width = features.shape
    shift = features[:BLOCK].mean(axis=0, dtype=np.float64)
    total = np.zeros(width)
    products = np.zeros((width, width), order="F")
    for start in range(0, n, BLOCK):
        block = features[start : start + BLOCK].astype(np.float64) - shift
        total += block.sum(axis=0)
        products = dsyrk(1.0, block.T, beta=1.0, c=products, overwrite_c=1, lower=0)
    scatter = products + products.T  # the upper triangle is zero
    np.fill_diagonal(scatter, products.diagonal())
    offset = total / n
    return Moments(n, shift + offset, scatter - n * np.outer(offset, offset))


def mean_and_scale(features: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the mean and the standard deviation of each column in float64; the latter is 1 for a constant column."""
    mean, squares = mean_and_squares(features)
    return mean, scale_of(squares / len(features), mean)


def mean_and_squares(features: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the mean of each column and the sum of squares about it, which is the diagonal of the scatter."""
    mean = features.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(features), BLOCK):
        squares += ((features[start : start + BLOCK] - mean) ** 2).sum(axis=0)
    return mean, squares


def scale_of(variance: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the standard deviations; 1 for columns that vary only by float64 rounding."""
    resolution = 10 * np.finfo(np.float64).eps
    return np.sqrt(np.where(variance > resolution * np.maximum(mean**2, 1e-300), variance, 1.0))


def _kept(values: NDArray[np.float64]) -> NDArray[np.intp]:
    order = np.argsort(values)[::-1]
    kept: NDArray[np.intp] = order[values[order] > NEGLIGIBLE * max(values.max(initial=0.0), 1e-300)]
    return kept


MOST_SCORES = 20_000_000
"""The most leave-one-out scores in memory (80 MB); with a thousand classes a sample of some thousand rows is scored."""

FEWEST_ROWS = 2048


@dataclass(frozen=True)
class RotatedRows:
    """Feature rows (n, D) with a basis, and the counts and centres of their classes.

    ``centres`` (C, r) are the class means in the basis; the origin is the mean of all rows.
    """

    features: NDArray[np.floating]
    basis: Basis
    codes: NDArray[np.intp]
    counts: NDArray[np.intp]
    centres: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.floating], codes: NDArray[np.intp], basis: Basis | None) -> Self:
        """Computes the class means, and the basis if it is not given."""
        basis = basis or Basis.of(features)
        counts = np.bincount(codes)
        sums = np.zeros((len(counts), features.shape[1]))
        for start in range(0, len(codes), BLOCK):
            part = slice(start, start + BLOCK)
            own = codes[part]
            members = csr_array((np.ones(len(own)), (own, np.arange(len(own)))), shape=(len(counts), len(own)))
            sums += members @ features[part].astype(np.float64)
        centres = ((sums / counts[:, None] - basis.mean) / basis.scale) @ basis.axes
        return cls(features, basis, codes, counts, centres)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Each class's share of the rows."""
        return self.counts / len(self.codes)

    def left_out(self, levels: int) -> NDArray[np.intp]:
        """Returns the rows to score ``levels`` models on: all rows, or a sample whose scores fit in memory."""
        return sample(self.codes, max(FEWEST_ROWS, MOST_SCORES // (levels * len(self.counts))), seed=0)

    def blocks(self, rows: NDArray[np.intp]) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.intp]]]:
        """Yields slices of ``rows`` with these rows in the basis, float32 (m, r), and their codes."""
        axes = self.basis.axes.astype(np.float32)
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            # If all rows are wanted, a slice avoids a copy.
            chosen = part if len(rows) == len(self.codes) else rows[part]
            turned = standardised(self.features[chosen], self.basis.mean, self.basis.scale) @ axes
            yield part, turned, self.codes[chosen]
