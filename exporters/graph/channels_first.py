"""Converts a graph from channels-last to channels-first feature maps, the layout of backbones.

Keras computes (N, H, W, C); on torch each convolution is between two Transposes. The conversion goes through the nodes
and computes each feature map channels-first. It restores the channels-last value only for nodes that need it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from penult.exporters.graph.graph_view import GraphView, attribute, network_inputs

__all__ = ["to_channels_first"]

_TO_FIRST, _TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
_UNARY = {
    "Abs", "Cast", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
    "Log", "Mish", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Tanh",
}  # fmt: skip
_ARITHMETIC = {"Add", "Div", "Max", "Mean", "Min", "Mul", "Pow", "Sub", "Sum"}


def to_channels_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """Changes the model in place to take (N, 3, H, W), and returns it; feature maps keep their names."""
    return _LayoutConverter(model).convert()


class _LayoutConverter:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.view = GraphView(model)
        self.shapes = self.view.shapes  # shapes before the conversion
        self.nodes: list[onnx.NodeProto] = []
        self.first: dict[str, str] = {}  # channels-last value -> name of its channels-first value
        self.added: dict[str, onnx.TensorProto] = {}
        self.restored: set[str] = set()
        self.channels_last: set[str] = set()  # values that are computed channels-last

    def convert(self) -> onnx.ModelProto:
        """Converts each node once, in order."""
        graph = self.model.graph
        (image,) = network_inputs(graph)
        self._convert_input(image)
        for node in list(self.view.graph.node):
            convert = self._converter(node)
            if convert is None or not convert(node):
                self._keep(node)
        del graph.node[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.added.values())
        return self.model

    def _converter(self, node: onnx.NodeProto) -> Callable[[onnx.NodeProto], bool] | None:
        if node.op_type in _UNARY:
            return self._unary
        if node.op_type in _ARITHMETIC:
            return self._arithmetic
        converters = {
            "Concat": self._concat,
            "Pad": self._pad,
            "ReduceMean": self._mean,
            "Reshape": self._reshape,
            "Slice": self._slice,
            "Transpose": self._transpose,
        }
        return converters.get(node.op_type)

    def _convert_input(self, image: onnx.ValueInfoProto) -> None:
        dims = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in image.type.tensor_type.shape.dim]
        sides = [dims[place] for place in _TO_FIRST]
        converted = helper.make_tensor_value_info(image.name, image.type.tensor_type.elem_type, sides)
        self.model.graph.input[0].CopyFrom(converted)
        self.first[image.name] = image.name

    def _keep(self, node: onnx.NodeProto) -> None:
        """Copies a node that cannot be converted, with its inputs restored to channels-last.

        Its channels-last output, such as that of LayerNormalization, is transposed to channels-first.
        """
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._last(name) for name in node.input]
        self.nodes.append(copy)
        value = node.output[0]
        if any(name in self.first for name in node.input) and len(self.shapes.get(value, ())) == 4:
            last = f"{value}.last"
            copy.output[0] = last
            self.nodes.append(helper.make_node("Transpose", [last], [value], perm=_TO_FIRST))
            self.first[value] = value
            self.restored.add(last)
            self.channels_last.add(value)

    def _last(self, value: str) -> str:
        if value not in self.first:
            return value
        name = f"{value}.last"
        if name not in self.restored:
            self.restored.add(name)
            self.nodes.append(helper.make_node("Transpose", [self.first[value]], [name], perm=_TO_LAST))
        return name

    def _transpose(self, node: onnx.NodeProto) -> bool:
        value, perm = node.input[0], attribute(node, "perm")
        if perm == _TO_FIRST and value in self.first:
            self.nodes.append(helper.make_node("Identity", [self.first[value]], [node.output[0]]))
            return True
        if perm == _TO_LAST and value not in self.first:
            self._replace(node, helper.make_node("Identity", [value], [node.output[0]]))
            return True
        return False

    def _replace(self, node: onnx.NodeProto, converted: onnx.NodeProto) -> None:
        """Replaces ``node`` by ``converted``, whose output is channels-first."""
        self.nodes.append(converted)
        self.first[node.output[0]] = node.output[0]

    def _unary(self, node: onnx.NodeProto) -> bool:
        if node.input[0] not in self.first or node.input[0] in self.channels_last:
            return False
        converted = onnx.NodeProto()
        converted.CopyFrom(node)
        converted.input[0] = self.first[node.input[0]]
        self._replace(node, converted)
        return True

    def _arithmetic(self, node: onnx.NodeProto) -> bool:
        """Converts arithmetic between feature maps, or with constants per channel."""
        if not any(name in self.first and name not in self.channels_last for name in node.input):
            return False
        inputs = [self.first.get(name) or self._constant(name) for name in node.input]
        if None in inputs:
            return False
        self._replace(node, helper.make_node(node.op_type, [str(name) for name in inputs], [node.output[0]]))
        return True

    def _constant(self, name: str) -> str | None:
        """Returns the name of a constant reshaped for channels-first feature maps."""
        numbers = self.view.constant(name)
        if numbers is None:
            return None
        if numbers.size == 1:
            return name
        if numbers.ndim not in (1, 4):
            return None
        converted = numbers.reshape(-1, 1, 1) if numbers.ndim == 1 else numbers.transpose(_TO_FIRST)
        return self._add(f"{name}.first", converted)

    def _add(self, name: str, numbers: npt.NDArray[Any]) -> str:
        self.added[name] = numpy_helper.from_array(np.ascontiguousarray(numbers), name)
        return name

    def _concat(self, node: onnx.NodeProto) -> bool:
        if not all(name in self.first for name in node.input):
            return False
        axis = _TO_FIRST.index(int(str(attribute(node, "axis"))) % 4)
        inputs = [self.first[name] for name in node.input]
        self._replace(node, helper.make_node("Concat", inputs, [node.output[0]], axis=axis))
        return True

    def _pad(self, node: onnx.NodeProto) -> bool:
        pads = self.view.constant(node.input[1])
        if node.input[0] not in self.first or pads is None or pads.size != 8 or len(node.input) > 3:
            return False
        converted = onnx.NodeProto()
        converted.CopyFrom(node)
        converted.input[0] = self.first[node.input[0]]
        converted.input[1] = self._add(f"{node.output[0]}.pads", pads.reshape(2, 4)[:, _TO_FIRST].reshape(-1))
        self._replace(node, converted)
        return True

    def _mean(self, node: onnx.NodeProto) -> bool:
        """Converts the mean over height and width to a global average pool."""
        axes = attribute(node, "axes")
        if node.input[0] not in self.first or not isinstance(axes, list) or sorted(a % 4 for a in axes) != [1, 2]:
            return False
        output = node.output[0]
        if attribute(node, "keepdims", 1):
            self._replace(node, helper.make_node("GlobalAveragePool", [self.first[node.input[0]]], [output]))
        else:
            self.nodes.append(helper.make_node("GlobalAveragePool", [self.first[node.input[0]]], [f"{output}.pooled"]))
            self.nodes.append(helper.make_node("Flatten", [f"{output}.pooled"], [output]))
        return True

    def _reshape(self, node: onnx.NodeProto) -> bool:
        """Converts a Reshape between vectors and maps of one pixel; for other maps the order matters."""
        value, output = node.input[0], node.output[0]
        before, after = self.shapes.get(value, ()), self.shapes.get(output, ())
        if len(before) == 2 and len(after) == 4 and after[1:] == (1, 1, before[1]):
            target = self._add(f"{output}.shape.first", np.array([-1, before[1], 1, 1]))
            self._replace(node, helper.make_node("Reshape", [value, target], [output]))
            return True
        if value in self.first and len(before) == 4 and before[1:3] == (1, 1):
            if len(after) == 2:
                self.nodes.append(helper.make_node("Flatten", [self.first[value]], [output]))
                return True
            if after == before:
                self._replace(node, helper.make_node("Identity", [self.first[value]], [output]))
                return True
        return False

    def _slice(self, node: onnx.NodeProto) -> bool:
        axes = self.view.constant(node.input[3]) if len(node.input) > 3 else None
        if node.input[0] not in self.first or axes is None:
            return False
        converted = onnx.NodeProto()
        converted.CopyFrom(node)
        converted.input[0] = self.first[node.input[0]]
        places = [_TO_FIRST.index(int(axis) % 4) for axis in axes]
        converted.input[3] = self._add(f"{node.output[0]}.axes", np.array(places, dtype=np.int64))
        self._replace(node, converted)
        return True
