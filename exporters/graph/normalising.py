"""Puts what a network does to pixels into its graph: layout, channel order, mean and scale.

Channel order and scale go into the filters of the first convolution. So does the mean where nothing is padded; where
zeros are padded they stand for the mean colour, and a bias would be wrong along the borders: there it stays a Sub.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from penult.exporters.card import INPUT, Normalisation
from penult.exporters.graph.graph_view import attribute, network_inputs

__all__ = ["put_pixels_in"]


@dataclass(frozen=True)
class _First:
    """The one convolution that takes the network's input, and its weights."""

    node: onnx.NodeProto
    weights: onnx.TensorProto
    bias: npt.NDArray[Any] | None

    def pads(self) -> list[int]:
        """Gives how many zeros are padded on each border."""
        return next((list(a.ints) for a in self.node.attribute if a.name == "pads"), [])


def put_pixels_in(model: onnx.ModelProto, normalisation: Normalisation, size: tuple[int, int]) -> None:
    """Changes the model's float input into ``pixels``: uint8 (N, H, W, 3) RGB."""
    graph = model.graph
    (value,) = network_inputs(graph)
    channels_last = value.type.tensor_type.shape.dim[1].dim_value != 3
    front = _Front(channels_last)
    first = None if channels_last else _first_convolution(graph, value.name)
    mean = np.array(normalisation.mean, dtype=np.float64)
    gain = 1.0 / np.array(normalisation.std, dtype=np.float64)
    bgr = normalisation.channels == "bgr"
    if first is not None:
        left = _folded(graph, first, mean, gain, bgr=bgr)
        front.by("Sub", left[::-1] if bgr else left)
    else:
        if bgr:
            front.reverse()
        front.by("Sub", mean)
        front.by("Mul", gain)
    rest = list(graph.node)
    for node in rest:
        node.input[:] = [front.last if name == value.name else name for name in node.input]
    del graph.node[:]
    graph.node.extend([*front.nodes, *rest])
    graph.initializer.extend(front.weights)
    graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", *size, 3]))


class _Front:
    """The nodes from ``pixels`` to what the network took."""

    def __init__(self, channels_last: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.last = INPUT
        self._axis = 3 if channels_last else 1
        if not channels_last:
            self._add("Transpose", "nchw", perm=[0, 3, 1, 2])
        self._add("Cast", "float", to=TensorProto.FLOAT)

    def by(self, kind: str, numbers: npt.NDArray[np.float64]) -> None:
        """Subtracts from, or multiplies, each channel; leaves out what changes nothing."""
        if (numbers != (0.0 if kind == "Sub" else 1.0)).any():
            shape = [1, 1, 1, 1]
            shape[self._axis] = 3
            self._add(kind, kind.lower(), numbers.astype(np.float32).reshape(shape))

    def reverse(self) -> None:
        """Turns RGB into BGR."""
        self._add("Gather", "bgr", np.array([2, 1, 0]), axis=self._axis)

    def _add(self, kind: str, name: str, numbers: npt.NDArray[Any] | None = None, **attributes: Any) -> None:
        inputs = [self.last]
        if numbers is not None:
            inputs.append(f"{INPUT}.{name}.by")
            self.weights.append(numpy_helper.from_array(numbers, inputs[1]))
        self.nodes.append(helper.make_node(kind, inputs, [f"{INPUT}.{name}"], **attributes))
        self.last = f"{INPUT}.{name}"


def _first_convolution(graph: onnx.GraphProto, value: str) -> _First | None:
    takers = [node for node in graph.node if value in node.input]
    if len(takers) != 1 or takers[0].op_type != "Conv" or attribute(takers[0], "group", 1) != 1:
        return None
    stored = {tensor.name: tensor for tensor in graph.initializer}
    weights, *bias = (name for name in takers[0].input[1:] if name)
    used_once = sum(weights in node.input for node in graph.node) == 1
    if not used_once or weights not in stored or not all(name in stored for name in bias):
        return None
    return _First(takers[0], stored[weights], numpy_helper.to_array(stored[bias[0]]) if bias else None)


def _folded(
    graph: onnx.GraphProto, first: _First, mean: npt.NDArray[np.float64], gain: npt.NDArray[np.float64], *, bgr: bool
) -> npt.NDArray[np.float64]:
    """Folds what can be folded into the first convolution, and gives the mean that is still to be taken away."""
    filters = numpy_helper.to_array(first.weights).astype(np.float64) * gain[None, :, None, None]
    automatic = attribute(first.node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    if not automatic and not any(first.pads()) and mean.any():
        shift = (filters * mean[None, :, None, None]).sum(axis=(1, 2, 3))
        bias = (0.0 if first.bias is None else first.bias.astype(np.float64)) - shift
        graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), f"{INPUT}.bias"))
        del first.node.input[2:]
        first.node.input.append(f"{INPUT}.bias")
        mean = np.zeros(3)
    filters = filters[:, ::-1] if bgr else filters
    first.weights.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(filters, dtype=np.float32), first.weights.name))
    return mean
