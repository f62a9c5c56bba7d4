"""Answers questions about a graph: shapes, producers of values, data dependence and FLOPs."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnx.helper import get_attribute_value

from penult.errors import BackboneError, first_line

__all__ = ["GraphView", "Shape", "attribute", "flops_up_to", "network_inputs", "shapes_of", "without_large_weights"]

Shape: TypeAlias = tuple[int | None, ...]
_LARGEST_VALUE = 1 << 28  # numbers per image in one value; 1 GiB as float32
_SMALL_COUNT = 512  # weights that determine shapes are never longer
# The outputs of these depend only on the image size, which is constant.
_OF_SIZES = {"Shape", "Size"}


def without_large_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with large weights replaced by inputs, so that checks need no copy of them."""
    bare = onnx.ModelProto(ir_version=model.ir_version)
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    bare.graph.name = model.graph.name
    bare.graph.node.extend(model.graph.node)
    bare.graph.input.extend(model.graph.input)
    bare.graph.output.extend(model.graph.output)
    bare.graph.value_info.extend(model.graph.value_info)
    given = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL_COUNT:
            bare.graph.initializer.append(tensor)
        elif tensor.name not in given:
            bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return bare


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with inferred shapes; raises BackboneError if they are inconsistent."""
    try:
        return onnx.shape_inference.infer_shapes(
            without_large_weights(model), check_type=True, strict_mode=True, data_prop=True
        )
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as reason:
        raise BackboneError(
            f"The shapes of the graph are inconsistent: {first_line(reason)}",
            expected="a graph that ONNX's own shape inference accepts",
        ) from reason


def shapes_of(model: onnx.ModelProto) -> dict[str, Shape]:
    """Returns the shape of every value, with None for a side that depends on the batch or is unknown."""
    graph = _inferred(model).graph
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if value.type.HasField("tensor_type") and kind.HasField("shape"):
            sides = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
            shapes.setdefault(value.name, sides)
    stored = {tensor.name for tensor in model.graph.initializer}
    for name, shape in shapes.items():
        if len(shape) >= 3 and name not in stored and any(side is not None and side < 1 for side in shape[1:]):
            raise BackboneError(  # ONNX Runtime would crash with a division by zero
                f"The value {name!r} has the shape {shape}, which is empty",
                expected="images that are large enough for the strides of the network",
                remedy="choose a larger size",
            )
        if math.prod(side or 1 for side in shape) > _LARGEST_VALUE:
            raise BackboneError(
                f"The value {name!r} has the shape {shape}", expected=f"at most {_LARGEST_VALUE} numbers"
            )
    return shapes


def network_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Returns the inputs without the weights, which old files list as inputs."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """Returns the attribute of a node as a Python value."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


class GraphView:
    """Cached queries on a model, which must not change while the view is in use."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph = model.graph
        self.producers = {output: node for node in self.graph.node for output in node.output if output}

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The inferred shapes by value name."""
        return shapes_of(self.model)

    @cached_property
    def data_dependent(self) -> set[str]:
        """The names of values that depend on the pixels."""
        found = {value.name for value in network_inputs(self.graph)}
        for node in self.graph.node:
            if node.op_type not in _OF_SIZES and any(name in found for name in node.input):
                found.update(name for name in node.output if name)
        return found

    @cached_property
    def weights(self) -> dict[str, onnx.TensorProto]:
        """The initializers by name."""
        return {tensor.name: tensor for tensor in self.graph.initializer}

    def data_inputs(self, node: onnx.NodeProto) -> list[str]:
        """Returns the inputs of ``node`` that depend on the pixels."""
        return [name for name in node.input if name in self.data_dependent]

    def sides(self, value: str) -> tuple[int, int] | None:
        """Returns the (height, width) of an NCHW feature map, or None for any other value."""
        shape = self.shapes.get(value, ())
        return (shape[2], shape[3]) if len(shape) == 4 and shape[2] and shape[3] else None

    def width(self, value: str) -> int | None:
        """Returns the number of channels of a feature map, or of components of a vector."""
        shape = self.shapes.get(value, ())
        return shape[1] if len(shape) in (2, 4) else shape[-1] if shape else None

    def constant(self, value: str) -> npt.NDArray[Any] | None:
        """Returns the numbers of an initializer or Constant node, or None for any other value."""
        tensor: object = self.weights.get(value)
        if tensor is None and (node := self.producers.get(value)) is not None and node.op_type == "Constant":
            tensor = attribute(node, "value")
        return np.asarray(numpy_helper.to_array(tensor)) if isinstance(tensor, onnx.TensorProto) else None

    def numbers(self, value: str) -> list[int] | None:
        """Returns integer weights, such as the target of a Reshape, as a list."""
        tensor = self.weights.get(value)
        return None if tensor is None else [int(number) for number in numpy_helper.to_array(tensor).ravel()]

    def nodes_for(self, values: Iterable[str]) -> list[onnx.NodeProto]:
        """Returns the data-dependent nodes that compute the values, in order."""
        needed = set(values)
        kept = []
        for node in reversed(self.graph.node):
            made = [name for name in node.output if name in needed and name in self.data_dependent]
            if made:
                kept.append(node)
                needed.update(self.data_inputs(node))
        return kept[::-1]


def flops_up_to(graph: onnx.GraphProto, value: str, shapes: Mapping[str, Shape]) -> int | None:
    """Returns the floating-point operations per image up to ``value``, or None if a needed shape is unknown.

    Only convolutions and matrix products count, with a multiply-add as two.
    """
    producers = {output: node for node in graph.node for output in node.output if output}
    waiting, seen, total = [value], {value}, 0
    counted: set[int] = set()
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or id(node) in counted:
            continue
        counted.add(id(node))
        work = _work(node, shapes)
        if work is None:
            return None
        total += work
        fresh = [name for name in node.input if name and name not in seen]
        seen.update(fresh)
        waiting.extend(fresh)
    return total


def _work(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    count = _COUNTED.get(node.op_type)
    return count(node, shapes) if count else 0


def _conv(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    # Each output number costs one filter; in a transposed convolution, each input number does.
    made = node.output[0] if node.op_type == "Conv" else node.input[0]
    numbers, weights = _numbers(shapes.get(made)), shapes.get(node.input[1])
    if numbers is None or weights is None or None in weights[1:]:
        return None
    return 2 * numbers * math.prod(side or 1 for side in weights[1:])


def _gemm(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    numbers, left = _numbers(shapes.get(node.output[0])), shapes.get(node.input[0])
    transposed = any(a.name == "transA" and get_attribute_value(a) for a in node.attribute)
    if numbers is None or not left or left[0 if transposed else -1] is None:
        return None
    return 2 * numbers * (left[0 if transposed else -1] or 0)


def _numbers(shape: Shape | None) -> int | None:
    """Returns how many numbers a value has per image; its first side is the batch."""
    if shape is None or None in shape[1:]:
        return None
    return math.prod(side or 1 for side in shape[1:])


_COUNTED: dict[str, Callable[[onnx.NodeProto, Mapping[str, Shape]], int | None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _gemm,
    "MatMul": _gemm,
}
