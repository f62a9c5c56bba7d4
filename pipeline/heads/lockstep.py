"""The softmax losses of several folds from one pass over the rows, each with its own rows held out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.heads.blocks import map_stretches

__all__ = ["Answer", "Lockstep"]


@dataclass(frozen=True)
class Answer:
    """What a pass found for one model: the mean loss of its training rows, its gradient (C, r + 1), the held-out sum.

    The last column of the gradient is the intercept's.
    """

    loss: float
    gradient: NDArray[np.float64]
    held_out: float


@dataclass(frozen=True)
class Lockstep:
    """Rows (n, D) in float32, class codes (n), weights (n), and folds (n); fold -1 is never held out.

    ``axes`` (D, r) turns models in the basis to models on the rows; None when the rows stand in the basis already.
    """

    rows: NDArray[np.float32]
    codes: NDArray[np.intp]
    weights: NDArray[np.float32]
    folds: NDArray[np.intp]
    n_classes: int
    axes: NDArray[np.float32] | None
    threads: int = 1

    def evaluate(self, models: NDArray[np.float64], held_out: list[int | None]) -> list[Answer]:
        """Evaluates ``models`` (A, C, r + 1); model a trains on all rows but those of fold ``held_out[a]``."""
        n_models, n_classes, _ = models.shape
        flat = models[:, :, :-1].reshape(n_models * n_classes, -1).astype(np.float32)
        slopes = flat if self.axes is None else flat @ self.axes.T
        intercepts = models[:, :, -1].reshape(-1, 1).astype(np.float32)
        left_out = np.array([-2 if fold is None else fold for fold in held_out])

        def stretch(blocks: list[slice]) -> tuple[NDArray[np.float64], ...]:
            return self._stretch(blocks, np.ascontiguousarray(slopes.T), intercepts, left_out)

        parts = map_stretches(len(self.rows), stretch, threads=self.threads)
        gradient, level, losses, outside, total = (np.sum(part, axis=0) for part in zip(*parts, strict=True))
        if self.axes is not None:
            gradient = gradient.astype(np.float32) @ self.axes
        gradient = np.concatenate([gradient, level[:, None]], axis=1).reshape(models.shape) / total[:, None, None]
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
            rows, codes = self.rows[block], self.codes[block]
            places = np.arange(len(rows))
            # Rows first is the faster product; classes first lets all that follows run along rows.
            chances = np.ascontiguousarray((rows @ slopes).T)
            chances += intercepts
            chances = chances.reshape(n_models, self.n_classes, len(rows))
            chances -= chances.max(axis=1, keepdims=True)
            true = chances[:, codes, places]
            np.exp(chances, out=chances)
            mass = chances.sum(axis=1)
            loss = np.log(mass) - true
            is_out = self.folds[block] == left_out[:, None]
            inside = self.weights[block] * ~is_out
            chances *= (inside / mass)[:, None, :]
            chances[:, codes, places] -= inside
            residual = chances.reshape(columns, len(rows))
            gradient += residual @ rows
            level += residual.sum(axis=1, dtype=np.float64)
            losses += (loss * inside).sum(axis=1, dtype=np.float64)
            outside += (loss * is_out * self.weights[block]).sum(axis=1, dtype=np.float64)
            total += inside.sum(axis=1, dtype=np.float64)
        return gradient, level, losses, outside, total
