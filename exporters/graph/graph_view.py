"""Reads a graph as a network: who makes a value, who takes it, how large it is, and what depends on the pixels."""

from collections.abc import Iterable
from functools import cached_property

import onnx
from onnx import numpy_helper

from penult.exporters.graph.shapes import Shape, shapes_of

__all__ = ["GraphView", "attribute", "network_inputs"]

# What these give depends on the sizes of an image alone, and all images have one size.
_OF_SIZES = {"Shape", "Size"}


def network_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Gives the inputs that are no weights: old files list the weights among them."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """Gives a node's attribute in Python's types."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


class GraphView:
    """Look-ups on one model, which must not change while the view is used."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph = model.graph
        self.makers = {output: node for node in self.graph.node for output in node.output if output}

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every value, as far as it can be inferred."""
        return shapes_of(self.model)

    @cached_property
    def varying(self) -> set[str]:
        """The values that depend on the pixels."""
        found = {value.name for value in network_inputs(self.graph)}
        for node in self.graph.node:
            if node.op_type not in _OF_SIZES and any(name in found for name in node.input):
                found.update(name for name in node.output if name)
        return found

    @cached_property
    def weights(self) -> dict[str, onnx.TensorProto]:
        """The weights that stand in the file, by name."""
        return {tensor.name: tensor for tensor in self.graph.initializer}

    def data_inputs(self, node: onnx.NodeProto) -> list[str]:
        """Gives the inputs of ``node`` that depend on the pixels."""
        return [name for name in node.input if name in self.varying]

    def sides(self, value: str) -> tuple[int, int] | None:
        """Gives the (height, width) of a feature map in NCHW order, or None for any other value."""
        shape = self.shapes.get(value, ())
        return (shape[2], shape[3]) if len(shape) == 4 and shape[2] and shape[3] else None

    def width(self, value: str) -> int | None:
        """Gives how many channels, or numbers, a value has for one image."""
        shape = self.shapes.get(value, ())
        return shape[1] if len(shape) in (2, 4) else shape[-1] if shape else None

    def numbers(self, value: str) -> list[int] | None:
        """Gives small integer weights as a list, such as the target of a Reshape."""
        tensor = self.weights.get(value)
        return None if tensor is None else [int(number) for number in numpy_helper.to_array(tensor).ravel()]

    def behind(self, values: Iterable[str]) -> list[onnx.NodeProto]:
        """Gives the nodes that the values need and that depend on the pixels, in order."""
        needed = set(values)
        kept = []
        for node in reversed(self.graph.node):
            made = [name for name in node.output if name in needed and name in self.varying]
            if made:
                kept.append(node)
                needed.update(self.data_inputs(node))
        return kept[::-1]
