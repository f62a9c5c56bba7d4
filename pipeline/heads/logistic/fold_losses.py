"""The softmax losses of several folds from one pass over the rows, each with its own rows held out."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.heads.numerics.basis import Basis
from penult.pipeline.heads.numerics.blocks import map_stretches

__all__ = ["Answer", "Frame", "Lockstep", "columns_of_rows", "sums_of_rows"]


FAR = 30.0
"""Means of more standard deviations than this are taken off the rows themselves."""


@dataclass(frozen=True)
class Answer:
    """What a pass found for one model: the mean loss of its training rows, its gradient (C, r + 1), the held-out sum.

    The last column of the gradient is the intercept's.
    """

    loss: float
    gradient: NDArray[np.float64]
    held_out: float


@dataclass(frozen=True)
class Frame:
    """How rows as they are stored relate to the basis: less ``mean`` (D), times ``axes`` (D, r).

    ``is_shifting`` says that the mean is taken off each block and not off the models: where it is much greater than
    the spread, float32 could not tell the one from the other afterwards.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float32]
    is_shifting: bool

    @classmethod
    def of(cls, basis: Basis) -> Self:
        """Takes the frame of a basis, with the scale folded into the axes."""
        is_far = bool(np.abs(basis.mean / basis.scale).max() > FAR)
        return cls(basis.mean, (basis.axes / basis.scale[:, None]).astype(np.float32), is_far)

    @classmethod
    def none(cls, width: int) -> Self:
        """Is the frame of rows that stand in the basis already."""
        return cls(np.zeros(width), np.empty((0, 0), np.float32), False)

    def prepared(self, block: NDArray[np.floating]) -> NDArray[np.float32]:
        """Returns a block of rows in float32, as the models of ``to_rows`` take them."""
        if self.is_shifting:
            return (block - self.mean).astype(np.float32)
        return block.astype(np.float32, copy=False)

    def to_rows(
        self, slopes: NDArray[np.float64], levels: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Turns models in the basis, (m, r) and (m), into models on prepared rows, (m, D) and (m)."""
        if self.axes.size:
            slopes = (slopes.astype(np.float32) @ self.axes.T).astype(np.float64)
        if not self.is_shifting:
            levels = levels - slopes @ self.mean
        return slopes.astype(np.float32), levels.astype(np.float32)

    def to_basis(self, gradient: NDArray[np.float64], level: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turns the gradients (m, D) by models on prepared rows into those by models in the basis, (m, r)."""
        if not self.is_shifting:
            gradient = gradient - np.outer(level, self.mean)
        return (gradient.astype(np.float32) @ self.axes).astype(np.float64) if self.axes.size else gradient


@dataclass(frozen=True)
class Lockstep:
    """Rows (n, D) as they are stored, class codes (n), weights (n), and folds (n); fold -1 is never held out.

    The rows are neither copied nor changed: each block is cast as it is worked on, and what else would be done to
    the rows is done to the models, of which there is far less.
    """

    rows: NDArray[np.floating]
    codes: NDArray[np.intp]
    weights: NDArray[np.float32]
    folds: NDArray[np.intp]
    n_classes: int
    frame: Frame
    threads: int = 1

    def evaluate(self, models: NDArray[np.float64], held_out: list[int | None]) -> list[Answer]:
        """Evaluates ``models`` (A, C, r + 1); model a trains on all rows but those of fold ``held_out[a]``."""
        n_models, n_classes, _ = models.shape
        flat = models.reshape(n_models * n_classes, -1)
        slopes, intercepts = self.frame.to_rows(flat[:, :-1], flat[:, -1])
        left_out = np.array([-2 if fold is None else fold for fold in held_out])

        def stretch(blocks: list[slice]) -> tuple[NDArray[np.float64], ...]:
            return self._stretch(blocks, np.ascontiguousarray(slopes.T), intercepts[:, None], left_out)

        parts = map_stretches(len(self.rows), stretch, threads=self.threads)
        gradient, level, losses, outside, total = (np.sum(part, axis=0) for part in zip(*parts, strict=True))
        gradient = np.column_stack([self.frame.to_basis(gradient, level), level])
        gradient = gradient.reshape(models.shape) / total[:, None, None]
        return [Answer(float(losses[a] / total[a]), gradient[a], float(outside[a])) for a in range(n_models)]

    def _stretch(
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
            places = np.arange(len(rows))
            chances = columns_of_rows(rows, slopes)
            chances += intercepts
            chances = chances.reshape(n_models, self.n_classes, len(rows))
            chances -= chances.max(axis=1, keepdims=True)
            true = chances[:, codes, places]
            np.exp(chances, out=chances)
            own = np.exp(true)
            chances[:, codes, places] = 0
            others = chances.sum(axis=1)
            mass = others + own
            # A row that is told apart well loses next to nothing: one and next to nothing would round to one.
            loss = np.log1p(others + (own - 1)) - true
            is_out = self.folds[block] == left_out[:, None]
            inside = self.weights[block] * ~is_out
            chances *= (inside / mass)[:, None, :]
            chances[:, codes, places] = -inside * (others / mass)
            residual = chances.reshape(columns, len(rows))
            gradient += sums_of_rows(residual, rows)
            level += residual.sum(axis=1, dtype=np.float64)
            losses += (loss * inside).sum(axis=1, dtype=np.float64)
            outside += (loss * is_out * self.weights[block]).sum(axis=1, dtype=np.float64)
            total += inside.sum(axis=1, dtype=np.float64)
        return gradient, level, losses, outside, total


SMALL = 1_000_000
"""Up to so many multiplications OpenBLAS copies nothing."""

WIDEST_LANE, NARROWEST_LANE = 32, 16
PANEL = 256
"""Rows whose sums are held at once."""


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
    """Returns how many rows make a small product, or a number beyond any block where that would be too few."""
    fitting = min(WIDEST_LANE, SMALL // (width * n_columns))
    # The sums of each lane are written out, which is less than the rows themselves only where it has more rows.
    if fitting < max(NARROWEST_LANE, n_columns):
        return 1 << 62
    return 1 << (fitting.bit_length() - 1)
