"""Weights drawn by chance for a Caffe network: the architecture alone, the same on every machine."""

import math
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from penult.errors import BackboneError
from penult.exporters.sources.caffe_net import Layer

__all__ = ["random_blob"]

_MOST_NUMBERS = 1 << 28  # the largest layer of VGG has 103 million
_ONES = {("BatchNorm", 1), ("BatchNorm", 2), ("Scale", 0)}
_ZEROS = {("BatchNorm", 0), ("Scale", 1)}


def random_blob(layer: Layer, index: int, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Draws filters as He does, leaves biases at zero, and lets normalising layers do nothing."""
    if math.prod(shape) > _MOST_NUMBERS:
        raise BackboneError(
            f"The layer {layer.name!r} asks for weights of the shape {list(shape)}",
            expected=f"at most {_MOST_NUMBERS} numbers",
        )
    if (layer.type, index) in _ONES:
        return np.ones(shape, dtype=np.float32)
    if layer.type == "PReLU":
        return np.full(shape, 0.25, dtype=np.float32)
    if (layer.type, index) in _ZEROS or index > 0:
        return np.zeros(shape, dtype=np.float32)
    chance = np.random.default_rng(zlib.crc32(layer.name.encode()))
    return (chance.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))).astype(np.float32)
