"""Turns a graph whose feature maps have their channels last into one that has them first, as backbones have them.

Keras computes (N, H, W, C); on torch each convolution stands between two Transposes. Here every feature map gets a twin
with its channels first, node by node; a value with its channels last is made again only where a node needs it so.
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
_SINGLE = {
    "Abs", "Cast", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
    "Log", "Mish", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Tanh",
}  # fmt: skip
_SEVERAL = {"Add", "Div", "Max", "Mean", "Min", "Mul", "Pow", "Sub", "Sum"}


def to_channels_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """Gives the model changed: it takes (N, 3, H, W) and computes the same; feature maps keep their names, turned."""
    return _LayoutConverter(model).done()


class _LayoutConverter:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.view = GraphView(model)
        self.shapes = self.view.shapes  # as they are before the turn
        self.nodes: list[onnx.NodeProto] = []
        self.twins: dict[str, str] = {}  # a value with its channels last -> its name with its channels first
        self.added: dict[str, onnx.TensorProto] = {}
        self.restored: set[str] = set()
        self.native: set[str] = set()  # values that are computed with their channels last

    def done(self) -> onnx.ModelProto:
        """Goes through the graph once."""
        graph = self.model.graph
        (image,) = network_inputs(graph)
        self._turn_input(image)
        for node in list(self.view.graph.node):
            turn = self._way(node)
            if turn is None or not turn(node):
                self._keep(node)
        del graph.node[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.added.values())
        return self.model

    def _way(self, node: onnx.NodeProto) -> Callable[[onnx.NodeProto], bool] | None:
        if node.op_type in _SINGLE:
            return self._single
        if node.op_type in _SEVERAL:
            return self._several
        ways = {
            "Concat": self._concat,
            "Pad": self._pad,
            "ReduceMean": self._mean,
            "Reshape": self._reshape,
            "Slice": self._slice,
            "Transpose": self._transpose,
        }
        return ways.get(node.op_type)

    def _turn_input(self, image: onnx.ValueInfoProto) -> None:
        dims = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in image.type.tensor_type.shape.dim]
        sides = [dims[place] for place in _TO_FIRST]
        turned = helper.make_tensor_value_info(image.name, image.type.tensor_type.elem_type, sides)
        self.model.graph.input[0].CopyFrom(turned)
        self.twins[image.name] = image.name

    def _keep(self, node: onnx.NodeProto) -> None:
        """Takes a node as it is; what it needs with channels last is made so again.

        What it then gives with channels last, as LayerNormalization does, gets a twin as well.
        """
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._last(name) for name in node.input]
        self.nodes.append(copy)
        value = node.output[0]
        if any(name in self.twins for name in node.input) and len(self.shapes.get(value, ())) == 4:
            last = f"{value}.last"
            copy.output[0] = last
            self.nodes.append(helper.make_node("Transpose", [last], [value], perm=_TO_FIRST))
            self.twins[value] = value
            self.restored.add(last)
            self.native.add(value)

    def _last(self, value: str) -> str:
        if value not in self.twins:
            return value
        name = f"{value}.last"
        if name not in self.restored:
            self.restored.add(name)
            self.nodes.append(helper.make_node("Transpose", [self.twins[value]], [name], perm=_TO_LAST))
        return name

    def _transpose(self, node: onnx.NodeProto) -> bool:
        value, perm = node.input[0], attribute(node, "perm")
        if perm == _TO_FIRST and value in self.twins:
            self.nodes.append(helper.make_node("Identity", [self.twins[value]], [node.output[0]]))
            return True
        if perm == _TO_LAST and value not in self.twins:
            self._twin(node, helper.make_node("Identity", [value], [node.output[0]]))
            return True
        return False

    def _twin(self, node: onnx.NodeProto, turned: onnx.NodeProto) -> None:
        """Puts a node in the place of ``node``; what it gives has its channels first."""
        self.nodes.append(turned)
        self.twins[node.output[0]] = node.output[0]

    def _single(self, node: onnx.NodeProto) -> bool:
        if node.input[0] not in self.twins or node.input[0] in self.native:
            return False
        turned = onnx.NodeProto()
        turned.CopyFrom(node)
        turned.input[0] = self.twins[node.input[0]]
        self._twin(node, turned)
        return True

    def _several(self, node: onnx.NodeProto) -> bool:
        """Turns arithmetic between feature maps, and with constants for each channel."""
        if not any(name in self.twins and name not in self.native for name in node.input):
            return False
        inputs = [self.twins.get(name) or self._constant(name) for name in node.input]
        if None in inputs:
            return False
        self._twin(node, helper.make_node(node.op_type, [str(name) for name in inputs], [node.output[0]]))
        return True

    def _constant(self, name: str) -> str | None:
        """Gives a constant in the form that it takes beside feature maps with their channels first."""
        numbers = self._numbers(name)
        if numbers is None:
            return None
        if numbers.size == 1:
            return name
        if numbers.ndim not in (1, 4):
            return None
        turned = numbers.reshape(-1, 1, 1) if numbers.ndim == 1 else numbers.transpose(_TO_FIRST)
        return self._add(f"{name}.first", turned)

    def _numbers(self, name: str) -> npt.NDArray[Any] | None:
        if name in self.view.weights:
            return np.asarray(numpy_helper.to_array(self.view.weights[name]))
        maker = self.view.producers.get(name)
        value = attribute(maker, "value") if maker is not None and maker.op_type == "Constant" else None
        return np.asarray(numpy_helper.to_array(value)) if isinstance(value, onnx.TensorProto) else None

    def _add(self, name: str, numbers: npt.NDArray[Any]) -> str:
        self.added[name] = numpy_helper.from_array(np.ascontiguousarray(numbers), name)
        return name

    def _concat(self, node: onnx.NodeProto) -> bool:
        if not all(name in self.twins for name in node.input):
            return False
        axis = _TO_FIRST.index(int(str(attribute(node, "axis"))) % 4)
        inputs = [self.twins[name] for name in node.input]
        self._twin(node, helper.make_node("Concat", inputs, [node.output[0]], axis=axis))
        return True

    def _pad(self, node: onnx.NodeProto) -> bool:
        pads = self._numbers(node.input[1])
        if node.input[0] not in self.twins or pads is None or pads.size != 8 or len(node.input) > 3:
            return False
        turned = onnx.NodeProto()
        turned.CopyFrom(node)
        turned.input[0] = self.twins[node.input[0]]
        turned.input[1] = self._add(f"{node.output[0]}.pads", pads.reshape(2, 4)[:, _TO_FIRST].reshape(-1))
        self._twin(node, turned)
        return True

    def _mean(self, node: onnx.NodeProto) -> bool:
        """Turns the average over the sides into a global pool, whose vector is the same in both orders."""
        axes = attribute(node, "axes")
        if node.input[0] not in self.twins or not isinstance(axes, list) or sorted(a % 4 for a in axes) != [1, 2]:
            return False
        output = node.output[0]
        if attribute(node, "keepdims", 1):
            self._twin(node, helper.make_node("GlobalAveragePool", [self.twins[node.input[0]]], [output]))
        else:
            self.nodes.append(helper.make_node("GlobalAveragePool", [self.twins[node.input[0]]], [f"{output}.pooled"]))
            self.nodes.append(helper.make_node("Flatten", [f"{output}.pooled"], [output]))
        return True

    def _reshape(self, node: onnx.NodeProto) -> bool:
        """Turns what makes vectors maps of one pixel, and such maps vectors; elsewhere the order matters."""
        value, output = node.input[0], node.output[0]
        before, after = self.shapes.get(value, ()), self.shapes.get(output, ())
        if len(before) == 2 and len(after) == 4 and after[1:] == (1, 1, before[1]):
            target = self._add(f"{output}.shape.first", np.array([-1, before[1], 1, 1]))
            self._twin(node, helper.make_node("Reshape", [value, target], [output]))
            return True
        if value in self.twins and len(before) == 4 and before[1:3] == (1, 1):
            if len(after) == 2:
                self.nodes.append(helper.make_node("Flatten", [self.twins[value]], [output]))
                return True
            if after == before:
                self._twin(node, helper.make_node("Identity", [self.twins[value]], [output]))
                return True
        return False

    def _slice(self, node: onnx.NodeProto) -> bool:
        axes = self._numbers(node.input[3]) if len(node.input) > 3 else None
        if node.input[0] not in self.twins or axes is None:
            return False
        turned = onnx.NodeProto()
        turned.CopyFrom(node)
        turned.input[0] = self.twins[node.input[0]]
        places = [_TO_FIRST.index(int(axis) % 4) for axis in axes]
        turned.input[3] = self._add(f"{node.output[0]}.axes", np.array(places, dtype=np.int64))
        self._twin(node, turned)
        return True
