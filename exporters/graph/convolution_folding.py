"""Folds the arithmetic after a convolution into its filters, in the same way as BatchNorm folding."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from penult.exporters.graph.graph_view import GraphView

__all__ = ["fold_into_convolutions"]


@dataclass
class _Filters:
    """The filters and biases of one convolution while nodes are folded into them."""

    weights: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]

    def apply(self, kind: str, numbers: npt.NDArray[np.float64]) -> None:
        """Applies a node of this kind to the filters instead of to their output."""
        if kind == "Mul":
            self.weights = self.weights * numbers.reshape(-1, 1, 1, 1)
            self.bias = self.bias * numbers
        else:
            self.bias = self.bias + numbers if kind == "Add" else self.bias - numbers


def fold_into_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a new model in which convolutions include the Add, Sub and Mul of per-channel constants that follow.

    The last value keeps its name; the values in between disappear.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    view = GraphView(copy)
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in copy.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    for value in copy.graph.output:
        consumers.setdefault(value.name, []).append(onnx.NodeProto())
    folded: set[int] = set()
    for node in copy.graph.node:
        if node.op_type == "Conv" and all(name in view.weights for name in node.input[1:]):
            steps = _steps_after(node, consumers, view)
            if steps:
                _fold(copy.graph, node, steps, view)
                folded.update(id(step) for step, _ in steps)
    kept = [node for node in copy.graph.node if id(node) not in folded]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


def _steps_after(
    node: onnx.NodeProto, consumers: dict[str, list[onnx.NodeProto]], view: GraphView
) -> list[tuple[onnx.NodeProto, npt.NDArray[np.float64]]]:
    """Returns the nodes that only shift and scale the output of a convolution, with their per-channel numbers."""
    channels = view.weights[node.input[1]].dims[0]
    steps: list[tuple[onnx.NodeProto, npt.NDArray[np.float64]]] = []
    value = node.output[0]
    while len(following := consumers.get(value, [])) == 1:
        step = following[0]
        numbers = _numbers(step, value, channels, view)
        if numbers is None:
            break
        steps.append((step, numbers))
        value = step.output[0]
    return steps


def _numbers(step: onnx.NodeProto, value: str, channels: int, view: GraphView) -> npt.NDArray[np.float64] | None:
    if step.op_type not in ("Add", "Mul", "Sub") or (step.op_type == "Sub" and step.input[0] != value):
        return None
    other = step.input[1] if step.input[0] == value else step.input[0]
    array = view.constant(other)
    if array is None:
        return None
    numbers = array.astype(np.float64)
    if numbers.size == 1 and numbers.ndim <= 4:
        return np.full(channels, numbers.item())
    if numbers.shape in ((channels, 1, 1), (1, channels, 1, 1)):
        return numbers.reshape(channels)
    return None


def _fold(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    steps: list[tuple[onnx.NodeProto, npt.NDArray[np.float64]]],
    view: GraphView,
) -> None:
    weights = numpy_helper.to_array(view.weights[node.input[1]]).astype(np.float64)
    has_bias = len(node.input) > 2 and node.input[2]
    bias = numpy_helper.to_array(view.weights[node.input[2]]).astype(np.float64) if has_bias else np.zeros(len(weights))
    filters = _Filters(weights, bias)
    for step, numbers in steps:
        filters.apply(step.op_type, numbers)
    output = steps[-1][0].output[0]
    del node.input[1:]
    for name, array in ((f"{output}.filters", filters.weights), (f"{output}.bias", filters.bias)):
        graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
        node.input.append(name)
    node.output[0] = output
