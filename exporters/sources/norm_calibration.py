"""Fits the statistics of BatchNorm to weights that were drawn, as training would have done.

A network is built for layers whose numbers have mean 0 and variance 1, and drawn weights do not keep to it: numbers
grow or fade from layer to layer, until a gate or a softmax makes another answer of the rounding of a last digit. Here
each layer's statistics are scaled by a power of two, found on a fixed batch: one number for a layer, and so coarse that
machines which sum in different orders come to the same weights and the same fingerprint.
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
    """Gives the fixed batch (N, H, W, 3) as a network takes it.

    Its contrast is the strongest that there is: gates let numbers grow with contrast, and no photo is to have more.
    """
    pixels = np.where(reference_batch(*size) < 128, 0.0, 255.0)
    channels = pixels[..., ::-1] if normalisation.channels == "bgr" else pixels
    return ((channels - normalisation.mean) / normalisation.std).astype(np.float32)


def calibrate_torch(network: Any, batch: npt.NDArray[np.float32]) -> int:
    """Scales the statistics of every BatchNorm of a torch network, in the order in which they run; gives how many."""
    import torch

    kinds = torch.nn.modules.batchnorm._BatchNorm
    norms = [part for part in network.modules() if isinstance(part, kinds) and part.running_var is not None]
    hooks: dict[Any, Any] = {}

    def settle(norm: Any, given: tuple[Any, ...]) -> None:
        hooks.pop(norm).remove()  # where a layer runs twice, its first input counts
        values = given[0].movedim(1, -1).numpy()
        power = _power(values, norm.running_var.numpy())
        norm.running_mean *= 2.0**power
        norm.running_var *= 4.0**power

    for norm in norms:
        hooks[norm] = norm.register_forward_pre_hook(settle)
    try:
        with torch.no_grad():
            network.eval()(torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2))))
        return len(norms) - len(hooks)
    finally:
        for hook in hooks.values():
            hook.remove()


def calibrate_keras(model: Any, batch: npt.NDArray[np.float32]) -> int:
    """Scales the statistics of every BatchNormalization of a Keras model, in the order in which they run."""
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    with _before_each(norms):
        model(batch, training=False)
    return len(norms)


@contextmanager
def _before_each(norms: list[Any]) -> Iterator[None]:
    """Settles each layer when it is called: Keras has no hooks, so its ``call`` is hidden by one of the instance."""

    def settling(norm: Any) -> Any:
        def call(given: Any, *rest: Any, **named: Any) -> Any:
            vars(norm).pop("call", None)  # where a layer runs twice, its first input counts
            mean, variance = (part.value.detach().cpu().numpy() for part in (norm.moving_mean, norm.moving_variance))
            power = _power(np.moveaxis(given.detach().cpu().numpy(), norm.axis, -1), variance)
            norm.moving_mean.assign(mean * 2.0**power)
            norm.moving_variance.assign(variance * 4.0**power)
            return norm.call(given, *rest, **named)

        return call

    for norm in norms:
        vars(norm)["call"] = settling(norm)
    try:
        yield
    finally:
        for norm in norms:
            vars(norm).pop("call", None)


def _power(values: npt.NDArray[Any], variance: npt.NDArray[Any]) -> int:
    """Gives the power of two next to the size of values (…, channels), measured by the variance that they are to have.

    Their mean is left aside: where values have faded, it would be taken for them.
    """
    size = math.sqrt(float(np.square(values / np.sqrt(variance), dtype=np.float64).mean()))
    return round(math.log2(size)) if 0 < size < math.inf else 0
