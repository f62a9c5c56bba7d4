"""The passes over all rows on a GPU with PyTorch; the results equal those of the CPU."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import MissingExtraError, ProviderError
from penult.pipeline.heads.logistic.fold_losses import FoldLoss, FoldLosses
from penult.pipeline.heads.numerics.basis import Moments
from penult.pipeline.heads.numerics.blocks import Matrix

__all__ = ["DeviceFoldLosses", "moments_on", "torch_on"]

ROWS = 65_536
"""Rows whose scores are on the device at once."""


def torch_on(device: str) -> Any:
    """Returns torch; raises an error if it cannot use ``device``, for example ``cuda``, ``cuda:1`` or ``cpu``."""
    try:
        import torch
    except ImportError:
        raise MissingExtraError.of("torch", "torch", f"Training on {device}") from None
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ProviderError(
            f"torch {torch.__version__} cannot compute on {device!r}: {reason}",
            expected="a device such as cuda, and a torch that was built for it",
            remedy="omit the device to train on the CPU",
        ) from error
    return torch


@dataclass(frozen=True)
class DeviceFoldLosses(FoldLosses):
    """`FoldLosses` whose rows are on a device in their stored precision; each block is cast when it is used."""

    device: str = "cuda"

    def evaluate(self, models: NDArray[np.float64], held_out: list[int | None]) -> list[FoldLoss]:
        """Evaluates ``models`` (A, C, r + 1); model a trains on all rows but those of fold ``held_out[a]``."""
        torch = torch_on(self.device)
        n_models, n_classes, _ = models.shape
        flat = models.reshape(n_models * n_classes, -1)
        frame_slopes, frame_levels = self.frame.to_rows(flat[:, :-1], flat[:, -1])
        slopes = torch.as_tensor(frame_slopes, device=self.device)
        levels = torch.as_tensor(frame_levels, device=self.device)
        left_out = torch.as_tensor([-2 if fold is None else fold for fold in held_out], device=self.device)
        rows, codes, weights, folds = self._on_device
        wide = {"dtype": torch.float64, "device": self.device}
        gradient = torch.zeros(slopes.shape, **wide)
        level, sums = torch.zeros(len(slopes), **wide), torch.zeros((3, n_models), **wide)
        for start in range(0, len(rows), ROWS):
            part = slice(start, start + ROWS)
            block = rows[part].float()
            if self.frame.is_shifting:
                block = (rows[part].double() - torch.as_tensor(self.frame.mean, device=self.device)).float()
            scores = (block @ slopes.T + levels).reshape(len(block), n_models, n_classes)
            scores -= scores.amax(dim=2, keepdim=True)
            true = codes[part][:, None, None].expand(-1, n_models, 1)
            own = scores.gather(2, true)
            others = scores.exp_().scatter_(2, true, 0.0)
            rest = others.sum(dim=2, keepdim=True)
            # log1p for the same reason as on the CPU.
            loss = (torch.log1p(rest + (own.exp() - 1)) - own)[:, :, 0]
            is_out = folds[part][:, None] == left_out
            inside = weights[part][:, None] * ~is_out
            residual = others * (inside[:, :, None] / (rest + own.exp()))
            residual.scatter_(2, true, -inside[:, :, None] * (rest / (rest + own.exp())))
            residual = residual.reshape(len(block), -1)
            gradient += (residual.T @ block).double()
            level += residual.sum(dim=0, dtype=torch.float64)
            outside = weights[part][:, None] * is_out
            for place, values in enumerate((loss * inside, loss * outside, inside)):
                sums[place] += values.sum(dim=0, dtype=torch.float64)
        losses, outside_sums, total = sums.cpu().numpy()
        level_sums = level.cpu().numpy()
        turned = self.frame.to_basis(gradient.cpu().numpy(), level_sums)
        gradients = np.column_stack([turned, level_sums]).reshape(models.shape) / total[:, None, None]
        return [FoldLoss(float(losses[a] / total[a]), gradients[a], float(outside_sums[a])) for a in range(n_models)]

    @cached_property
    def _on_device(self) -> tuple[Any, Any, Any, Any]:
        """Rows, codes, weights and folds, copied to the device once."""
        torch = torch_on(self.device)
        parts = (np.ascontiguousarray(self.rows), self.codes.astype(np.int64), self.weights, self.folds)
        # torch warns about read-only arrays, so these are copied.
        held = (part if part.flags.writeable else part.copy() for part in parts)
        rows, codes, weights, folds = (torch.from_numpy(part).to(self.device) for part in held)
        return rows, codes, weights, folds


def moments_on(device: str, features: Matrix) -> Moments:
    """Returns the moments of all rows, computed in float64 on the device."""
    torch = torch_on(device)
    n, width = features.shape
    shift = features[:ROWS].mean(axis=0, dtype=np.float64)
    offset = torch.as_tensor(shift, device=device)
    total = torch.zeros(width, dtype=torch.float64, device=device)
    products = torch.zeros((width, width), dtype=torch.float64, device=device)
    for start in range(0, n, ROWS):
        block = torch.as_tensor(np.array(features[start : start + ROWS]), device=device).double() - offset
        total += block.sum(dim=0)
        products += block.T @ block
    apart = total.cpu().numpy() / n
    return Moments(n, shift + apart, products.cpu().numpy() - n * np.outer(apart, apart))
