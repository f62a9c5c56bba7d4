"""Writes an ONNX graph node by node, where a network is built here and not read from a file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["IR_VERSION", "OPSET", "GraphWriter", "float_value"]

OPSET = 17
IR_VERSION = 8


class GraphWriter:
    """The nodes and weights of a graph that is being written."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Adds a node with one output, and gives that output's name."""
        self.add(kind, inputs, [output], **attributes)
        return output

    def add(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
        """Adds a node with any number of outputs."""
        node = helper.make_node(kind, list(inputs), list(outputs), name=outputs[0], **attributes)
        self._nodes.append(node)
        return node

    def constant(self, name: str, value: npt.NDArray[Any] | np.generic) -> str:
        """Adds weights, or finds those already added under this name, and gives the name."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name)
        return name

    def pooled(self, value: str, name: str) -> str:
        """Averages a feature map over its sides into the vector ``name``."""
        self.node("GlobalAveragePool", [value], f"{name}.pooled")
        return self.node("Flatten", [f"{name}.pooled"], name)

    def model(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """Gives the finished model, with the nodes in the order of their writing."""
        graph = helper.make_graph(self._nodes, name, list(inputs), list(outputs), list(self._constants.values()))
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="penult"
        )


def float_value(name: str, *sides: int | str | None) -> onnx.ValueInfoProto:
    """Declares a float32 value; a side that is a text is dynamic."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(sides))
