"""Makes the batch of a graph dynamic, and gives its images another size where the graph allows it."""

import numpy as np
import onnx
from onnx import numpy_helper

from penult.errors import BackboneError
from penult.exporters.graph.graph_view import GraphView, attribute, network_inputs

__all__ = ["with_any_batch"]


def with_any_batch(model: onnx.ModelProto, sides: tuple[int, int, int]) -> onnx.ModelProto:
    """Gives a copy whose one input is (N, *sides), with the constants mended that held the file's own batch."""
    (value,) = network_inputs(model.graph)
    dims = value.type.tensor_type.shape.dim
    batch = dims[0].dim_value if dims[0].HasField("dim_value") else None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _declare(copy, [batch or "N", *sides])
    if batch is not None:
        view = GraphView(copy)
        for node in list(copy.graph.node):
            if node.op_type == "Reshape":
                _mend_reshape(copy.graph, view, node, batch)
            elif node.op_type == "Squeeze":
                _mend_squeeze(copy.graph, view, node, batch)
        _declare(copy, ["N", *sides])
    return copy


def _declare(model: onnx.ModelProto, sides: list[int | str]) -> None:
    (value,) = network_inputs(model.graph)
    kind = value.type.tensor_type.elem_type
    value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, sides))


def _mend_reshape(graph: onnx.GraphProto, view: GraphView, node: onnx.NodeProto, batch: int) -> None:
    target = view.numbers(node.input[1])
    if not target or node.input[0] not in view.varying or attribute(node, "allowzero", 0):
        return
    before = view.shapes.get(node.input[0], ())
    if target[0] == batch and before[:1] == (batch,):
        target[0] = 0  # as many as there are
    elif -1 not in target:
        target[0] = -1  # whatever leads takes in the batch
    _set_numbers(graph, node, target)


def _mend_squeeze(graph: onnx.GraphProto, view: GraphView, node: onnx.NodeProto, batch: int) -> None:
    """Keeps the batch of 1 from being squeezed away with the sides."""
    shape = view.shapes.get(node.input[0], ())
    if shape[:1] != (batch,) or node.input[0] not in view.varying:
        return
    given = view.numbers(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    axes = [a % len(shape) for a in given] if given else [i for i, side in enumerate(shape) if side == 1]
    kept = [axis for axis in axes if axis != 0]
    if not kept:
        raise BackboneError(
            f"The graph's node {node.name or node.output[0]!r} squeezes the batch away",
            expected="a network that keeps its batch",
            remedy="name the penultimate tensor, or export the network with a dynamic batch",
        )
    _set_numbers(graph, node, kept)


def _set_numbers(graph: onnx.GraphProto, node: onnx.NodeProto, numbers: list[int]) -> None:
    name = f"{node.output[0]}.{node.op_type.lower()}"
    graph.initializer.append(numpy_helper.from_array(np.array(numbers, dtype=np.int64), name))
    del node.input[1:]
    node.input.append(name)
