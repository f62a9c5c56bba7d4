"""Assembles the graph of a backbone: uint8 pixels in, taps and logits out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from penult.errors import BackboneError
from penult.exporters.card import INPUT, LOGITS, Normalisation, Tap
from penult.exporters.graph.graph_view import GraphView, attribute, flops_up_to, network_inputs
from penult.exporters.graph.graph_writer import float_value, prune, rename_values
from penult.exporters.graph.pooling import TapPlan, pool_in_graph

__all__ = ["add_pixel_input", "assemble"]


def assemble(
    model: onnx.ModelProto,
    plans: Sequence[TapPlan],
    scores: str | None,
    normalisation: Normalisation,
    size: tuple[int, int],
) -> tuple[onnx.ModelProto, tuple[Tap, ...]]:
    """Returns the graph of a backbone, and its taps with their widths and FLOPs."""
    outputs = [*(plan.name for plan in plans), *([LOGITS] if scores else [])]
    names = {name: f"{name}.source" for name in (INPUT, *outputs)}
    model = rename_values(model, names)
    shapes = GraphView(model).shapes
    for plan in plans:
        tensor = names.get(plan.tensor, plan.tensor)
        pool_in_graph(model, replace(plan, tensor=tensor), len(shapes[tensor]))
    if scores:
        model.graph.node.append(onnx.helper.make_node("Flatten", [names.get(scores, scores)], [LOGITS]))
    del model.graph.output[:]
    model.graph.output.extend(float_value(name, "N", None) for name in outputs)
    add_pixel_input(model, normalisation, size)
    model = prune(model, outputs)
    view = GraphView(model)
    for output in model.graph.output:
        output.CopyFrom(float_value(output.name, "N", _width(view, output.name)))
    return model, tuple(
        Tap(
            name=plan.name,
            tensor=plan.tensor,
            width=_width(view, plan.name),
            pooling=plan.pooling,
            stage=plan.stage,
            reduction=plan.reduction,
            flops=flops_up_to(model.graph, plan.name, view.shapes),
        )
        for plan in plans
    )


def _width(view: GraphView, name: str) -> int:
    shape = view.shapes.get(name, ())
    if len(shape) != 2 or shape[1] is None or shape[0] is not None:
        raise BackboneError(
            f"The output {name!r} has the shape {shape}",
            expected="one vector of a known width per image, for any batch size",
            remedy="choose another tensor, or export the network with a dynamic batch",
        )
    return shape[1]


@dataclass(frozen=True)
class _FirstConvolution:
    """The only convolution that reads the network's input, and its weights."""

    node: onnx.NodeProto
    weights: onnx.TensorProto
    bias: npt.NDArray[Any] | None

    def pads(self) -> list[int]:
        """Returns the padding of each border."""
        return next((list(a.ints) for a in self.node.attribute if a.name == "pads"), [])


def add_pixel_input(model: onnx.ModelProto, normalisation: Normalisation, size: tuple[int, int]) -> None:
    """Replaces the model's float input by ``pixels``: uint8 (N, H, W, 3) RGB.

    The first convolution takes over channel order and scale, and also the mean if it pads nothing. If it pads with
    zeros, a bias would be wrong along the borders, so the mean remains a Sub.
    """
    graph = model.graph
    (value,) = network_inputs(graph)
    channels_last = value.type.tensor_type.shape.dim[1].dim_value != 3
    front = _PixelNodes(channels_last)
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


class _PixelNodes:
    """The nodes from ``pixels`` to the former input of the network."""

    def __init__(self, channels_last: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.last = INPUT
        self._axis = 3 if channels_last else 1
        if not channels_last:
            self._add("Transpose", "nchw", perm=[0, 3, 1, 2])
        self._add("Cast", "float", to=TensorProto.FLOAT)

    def by(self, kind: str, numbers: npt.NDArray[np.float64]) -> None:
        """Adds a Sub or Mul per channel, unless it would change nothing."""
        if (numbers != (0.0 if kind == "Sub" else 1.0)).any():
            shape = [1, 1, 1, 1]
            shape[self._axis] = 3
            self._add(kind, kind.lower(), numbers.astype(np.float32).reshape(shape))

    def reverse(self) -> None:
        """Converts RGB to BGR."""
        self._add("Gather", "bgr", np.array([2, 1, 0]), axis=self._axis)

    def _add(self, kind: str, name: str, numbers: npt.NDArray[Any] | None = None, **attributes: Any) -> None:
        inputs = [self.last]
        if numbers is not None:
            inputs.append(f"{INPUT}.{name}.by")
            self.weights.append(numpy_helper.from_array(numbers, inputs[1]))
        self.nodes.append(helper.make_node(kind, inputs, [f"{INPUT}.{name}"], **attributes))
        self.last = f"{INPUT}.{name}"


def _first_convolution(graph: onnx.GraphProto, value: str) -> _FirstConvolution | None:
    takers = [node for node in graph.node if value in node.input]
    if len(takers) != 1 or takers[0].op_type != "Conv" or attribute(takers[0], "group", 1) != 1:
        return None
    stored = {tensor.name: tensor for tensor in graph.initializer}
    weights, *bias = (name for name in takers[0].input[1:] if name)
    used_once = sum(weights in node.input for node in graph.node) == 1
    if not used_once or weights not in stored or not all(name in stored for name in bias):
        return None
    return _FirstConvolution(takers[0], stored[weights], numpy_helper.to_array(stored[bias[0]]) if bias else None)


def _folded(
    graph: onnx.GraphProto,
    first: _FirstConvolution,
    mean: npt.NDArray[np.float64],
    gain: npt.NDArray[np.float64],
    *,
    bgr: bool,
) -> npt.NDArray[np.float64]:
    """Folds the normalisation into the first convolution; returns the mean that must still be subtracted."""
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
