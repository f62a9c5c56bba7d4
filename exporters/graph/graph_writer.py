"""Writes ONNX graphs node by node, prunes them to some outputs, and renames their values."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["IR_VERSION", "OPSET", "GraphWriter", "float_value", "prune", "rename_values"]

OPSET = 17
IR_VERSION = 8


class GraphWriter:
    """Collects the nodes and weights of a new graph."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Adds a node with one output, and returns the output's name."""
        self.add(kind, inputs, [output], **attributes)
        return output

    def add(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
        """Adds a node with any number of outputs."""
        node = helper.make_node(kind, list(inputs), list(outputs), name=outputs[0], **attributes)
        self._nodes.append(node)
        return node

    def constant(self, name: str, value: npt.NDArray[Any] | np.generic) -> str:
        """Adds weights unless the name exists, and returns the name."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name)
        return name

    def pooled(self, value: str, name: str) -> str:
        """Adds a global average pool of a feature map, and returns the name of the vector."""
        self.node("GlobalAveragePool", [value], f"{name}.pooled")
        return self.node("Flatten", [f"{name}.pooled"], name)

    def model(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """Returns the model, with the nodes in the order in which they were added."""
        graph = helper.make_graph(self._nodes, name, list(inputs), list(outputs), list(self._constants.values()))
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="penult"
        )


def float_value(name: str, *sides: int | str | None) -> onnx.ValueInfoProto:
    """Returns the declaration of a float32 value; a side that is a string or None is dynamic."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(sides))


def prune(model: onnx.ModelProto, outputs: Iterable[str]) -> onnx.ModelProto:
    """Returns a new model with only these outputs, in this order, and the nodes and weights that they need."""
    wanted = list(outputs)
    graph = model.graph
    kept, needed = [], set(wanted)
    for node in reversed(graph.node):
        if any(name in needed for name in node.output if name):
            kept.append(node)
            needed.update(_read_by(node))
    known = {value.name: value for value in graph.output}
    cut = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    cut.opset_import.extend(model.opset_import)
    cut.graph.name = graph.name
    cut.graph.node.extend(reversed(kept))
    cut.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in needed)
    cut.graph.input.extend(graph.input)
    cut.graph.output.extend(known[name] for name in wanted)
    cut.graph.value_info.extend(value for value in graph.value_info if value.name in needed)
    return cut


def _read_by(node: onnx.NodeProto) -> set[str]:
    """Returns the values that a node reads, including those read in its subgraphs."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= _read_by(inner)
            names.update(output.name for output in graph.output)
    return names


def rename_values(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Returns a copy with values renamed from the keys of ``names`` to its values."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _rename(copy.graph, names)
    return copy


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, names)
    for named in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        named.name = names.get(named.name, named.name)
