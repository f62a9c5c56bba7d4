"""The softmax losses and gradients of several folds from one pass over the rows."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.heads.numerics.basis import Basis
from penult.pipeline.heads.numerics.blocks import map_chunks

__all__ = ["FoldLoss", "FoldLosses", "Frame", "columns_of_rows", "sums_of_rows"]


FAR = 30.0
"""Means larger than this number of standard deviations are subtracted from the rows themselves."""


@dataclass(frozen=True)
class FoldLoss:
    """The result for one model: mean training loss, its gradient (C, r + 1), and the summed held-out loss.

    The last column of the gradient belongs to the intercept.
    """

    loss: float
    gradient: NDArray[np.float64]
    held_out: float


@dataclass(frozen=True)
class Frame:
    """The map from stored rows to the basis: subtract ``mean`` (D), then multiply by ``axes`` (D, r).

    With ``is_shifting`` the mean is subtracted from each block instead of folded into the models: if it is much larger
    than the spread, float32 would lose the spread.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float32]
    is_shifting: bool

    @classmethod
    def of(cls, basis: Basis) -> Self:
        """Returns the frame of a basis, with the scale folded into the axes."""
        is_far = bool(np.abs(basis.mean / basis.scale).max() > FAR)
        return cls(basis.mean, (basis.axes / basis.scale[:, None]).astype(np.float32), is_far)

    @classmethod
    def none(cls, width: int) -> Self:
        """Returns the frame of rows that are already in the basis."""
        return cls(np.zeros(width), np.empty((0, 0), np.float32), False)

    def prepared(self, block: NDArray[np.floating]) -> NDArray[np.float32]:
        """Returns a block of rows in float32, ready for the models of ``to_rows``."""
        if self.is_shifting:
            return (block - self.mean).astype(np.float32)
        return block.astype(np.float32, copy=False)

    def to_rows(
        self, slopes: NDArray[np.float64], levels: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Converts models in the basis, (m, r) and (m), to models on prepared rows, (m, D) and (m)."""
        if self.axes.size:
            slopes = (slopes.astype(np.float32) @ self.axes.T).astype(np.float64)
        if not self.is_shifting:
            levels = levels - slopes @ self.mean
        return slopes.astype(np.float32), levels.astype(np.float32)

    def to_basis(self, gradient: NDArray[np.float64], level: NDArray[np.float64]) -> NDArray[np.float64]:
        """Converts gradients (m, D) for models on prepared rows to gradients (m, r) for models in the basis."""
        if not self.is_shifting:
            gradient = gradient - np.outer(level, self.mean)
        return (gradient.astype(np.float32) @ self.axes).astype(np.float64) if self.axes.size else gradient


@dataclass(frozen=True)
class FoldLosses:
    """Stored rows (n, D), class codes (n), weights (n) and folds (n); fold -1 is never held out.

    The rows are neither copied nor changed: each block is cast when it is used, and standardisation is applied to the
    models, which are much smaller.
    """

    rows: NDArray[np.floating]
    codes: NDArray[np.intp]
    weights: NDArray[np.float32]
    folds: NDArray[np.intp]
    n_classes: int
    frame: Frame
    threads: int = 1

    def evaluate(self, models: NDArray[np.float64], held_out: list[int | None]) -> list[FoldLoss]:
        """Evaluates ``models`` (A, C, r + 1); model a trains on all rows but those of fold ``held_out[a]``."""
        n_models, n_classes, _ = models.shape
        flat = models.reshape(n_models * n_classes, -1)
        slopes, intercepts = self.frame.to_rows(flat[:, :-1], flat[:, -1])
        left_out = np.array([-2 if fold is None else fold for fold in held_out])

        def chunk(blocks: list[slice]) -> tuple[NDArray[np.float64], ...]:
            return self._chunk(blocks, np.ascontiguousarray(slopes.T), intercepts[:, None], left_out)

        parts = map_chunks(len(self.rows), chunk, threads=self.threads)
        gradient, level, losses, outside, total = (np.sum(part, axis=0) for part in zip(*parts, strict=True))
        gradient = np.column_stack([self.frame.to_basis(gradient, level), level])
        gradient = gradient.reshape(models.shape) / total[:, None, None]
        return [FoldLoss(float(losses[a] / total[a]), gradient[a], float(outside[a])) for a in range(n_models)]

    def _chunk(
        self,
        blocks: list[slice],
        slopes: NDArray[np.float32],
        intercepts: NDArray[np.float32],
        left_out: NDArray[np.intp],
    ) -> tuple[NDArray[np.float64], ...]:
        n_models = len(left_out)
        columns = slopes.shape[1]
        gradient, level = np.zeros((columns, len(slopes))), np.zeros(columns)
        losses, outside, total = np.zeros(n_models), np.zeros(n_models), np.zeros(n_models)
        for block in blocks:
            rows, codes = self.frame.prepared(self.rows[block]), self.codes[block]
            indices = np.arange(len(rows))
            probabilities = columns_of_rows(rows, slopes)
            probabilities += intercepts
            probabilities = probabilities.reshape(n_models, self.n_classes, len(rows))
            probabilities -= probabilities.max(axis=1, keepdims=True)
            true = probabilities[:, codes, indices]
            np.exp(probabilities, out=probabilities)
            own = np.exp(true)
            probabilities[:, codes, indices] = 0
            others = probabilities.sum(axis=1)
            mass = others + own
            # A well-separated row has a tiny loss; log1p keeps digits that 1 + loss would round away.
            loss = np.log1p(others + (own - 1)) - true
            is_out = self.folds[block] == left_out[:, None]
            inside = self.weights[block] * ~is_out
            probabilities *= (inside / mass)[:, None, :]
            probabilities[:, codes, indices] = -inside * (others / mass)
            residual = probabilities.reshape(columns, len(rows))
            gradient += sums_of_rows(residual, rows)
            level += residual.sum(axis=1, dtype=np.float64)
            losses += (loss * inside).sum(axis=1, dtype=np.float64)
            outside += (loss * is_out * self.weights[block]).sum(axis=1, dtype=np.float64)
            total += inside.sum(axis=1, dtype=np.float64)
        return gradient, level, losses, outside, total


SMALL = 1_000_000
"""OpenBLAS copies no operands up to this number of multiplications."""

WIDEST_LANE, NARROWEST_LANE = 32, 16
PANEL = 256
"""Rows whose sums are in memory at once."""


def columns_of_rows(rows: NDArray[np.float32], slopes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns ``slopes.T @ rows.T`` (C, n) of rows (n, D) and slopes (D, C), contiguous along the rows."""
    lane = _lane(*slopes.shape)
    whole = len(rows) - len(rows) % lane
    if not whole:
        return np.ascontiguousarray((rows @ slopes).T)
    columns = np.empty((slopes.shape[1], len(rows)), np.float32)
    columns[:, :whole] = np.matmul(rows[:whole].reshape(-1, lane, rows.shape[1]), slopes).reshape(whole, -1).T
    columns[:, whole:] = (rows[whole:] @ slopes).T
    return columns


def sums_of_rows(weights: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns ``weights @ rows`` (C, D) of weights (C, n) and rows (n, D)."""
    n_columns, n = weights.shape
    lane = _lane(rows.shape[1], n_columns)
    whole = n - n % lane
    if not whole:
        return weights @ rows
    total = weights[:, whole:] @ rows[whole:]
    for start in range(0, whole, PANEL):
        part = slice(start, min(start + PANEL, whole))
        lanes = weights[:, part].reshape(n_columns, -1, lane).transpose(1, 0, 2)
        total += np.matmul(lanes, rows[part].reshape(-1, lane, rows.shape[1])).sum(axis=0)
    return total


def _lane(width: int, n_columns: int) -> int:
    """Returns the rows per small product, or a number larger than any block if small products do not pay off."""
    fitting = min(WIDEST_LANE, SMALL // (width * n_columns))
    # The sums of each lane are written to memory; this is less than the rows themselves only for enough rows.
    if fitting < max(NARROWEST_LANE, n_columns):
        return 1 << 62
    return 1 << (fitting.bit_length() - 1)
