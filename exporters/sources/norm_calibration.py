"""Fits the statistics of BatchNorm to random weights, as training would do.

Networks are designed for layers with mean 0 and variance 1. With random weights, activations grow or shrink from layer
to layer, until gates or a softmax amplify rounding errors. Here the statistics of each layer are scaled by a power of
two, found on a fixed batch. A power of two is coarse enough that machines which sum in different orders find the same
weights and fingerprint.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from penult.exporters.card import Normalisation
from penult.exporters.reference import reference_batch

__all__ = ["calibrate_keras", "calibrate_torch", "calibration_batch"]


def calibration_batch(size: tuple[int, int], normalisation: Normalisation) -> npt.NDArray[np.float32]:
    """Returns the fixed batch (N, H, W, 3), normalised for a network.

    Its contrast is the maximum: activations behind gates grow with contrast, and no photo should exceed the batch.
    """
    pixels = np.where(reference_batch(*size) < 128, 0.0, 255.0)
    channels = pixels[..., ::-1] if normalisation.channels == "bgr" else pixels
    return ((channels - normalisation.mean) / normalisation.std).astype(np.float32)


def calibrate_torch(network: Any, batch: npt.NDArray[np.float32]) -> int:
    """Scales the statistics of every BatchNorm of a torch network in running order; returns their number."""
    import torch

    kinds = torch.nn.modules.batchnorm._BatchNorm
    norms = [part for part in network.modules() if isinstance(part, kinds) and part.running_var is not None]
    hooks: dict[Any, Any] = {}

    def calibrate(norm: Any, given: tuple[Any, ...]) -> None:
        hooks.pop(norm).remove()  # only the first run of a shared layer counts
        values = given[0].movedim(1, -1).numpy()
        power = _exponent(values, norm.running_var.numpy())
        norm.running_mean *= 2.0**power
        norm.running_var *= 4.0**power

    for norm in norms:
        hooks[norm] = norm.register_forward_pre_hook(calibrate)
    try:
        with torch.no_grad():
            network.eval()(torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2))))
        return len(norms) - len(hooks)
    finally:
        for hook in hooks.values():
            hook.remove()


def calibrate_keras(model: Any, batch: npt.NDArray[np.float32]) -> int:
    """Scales the statistics of every BatchNormalization of a Keras model in running order; returns their number."""
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    with _calibrating_calls(norms):
        model(batch, training=False)
    return len(norms)


@contextmanager
def _calibrating_calls(norms: list[Any]) -> Iterator[None]:
    """Calibrates each layer when it is called: Keras has no hooks, so the instance overrides ``call``."""

    def calibrating(norm: Any) -> Any:
        def call(given: Any, *rest: Any, **named: Any) -> Any:
            vars(norm).pop("call", None)  # only the first run of a shared layer counts
            mean, variance = (part.value.detach().cpu().numpy() for part in (norm.moving_mean, norm.moving_variance))
            power = _exponent(np.moveaxis(given.detach().cpu().numpy(), norm.axis, -1), variance)
            norm.moving_mean.assign(mean * 2.0**power)
            norm.moving_variance.assign(variance * 4.0**power)
            return norm.call(given, *rest, **named)

        return call

    for norm in norms:
        vars(norm)["call"] = calibrating(norm)
    try:
        yield
    finally:
        for norm in norms:
            vars(norm).pop("call", None)


def _exponent(values: npt.NDArray[Any], variance: npt.NDArray[Any]) -> int:
    """Returns the exponent of the power of two nearest to the magnitude of values (…, channels).

    The magnitude is relative to the expected variance. The mean is not subtracted: it may dominate small values.
    """
    size = math.sqrt(float(np.square(values / np.sqrt(variance), dtype=np.float64).mean()))
    return round(math.log2(size)) if 0 < size < math.inf else 0
