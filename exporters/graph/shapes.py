"""The shapes of a graph's values, inferred and bounded, as far as they can be known."""

import math
from typing import TypeAlias

import onnx

from penult.errors import BackboneError

__all__ = ["Shape", "shapes_of", "skeleton"]

Shape: TypeAlias = tuple[int | None, ...]

_LARGEST_VALUE = 1 << 28  # numbers of one value for one image; 1 GiB as float32
_SMALL_COUNT = 512  # weights that may say something about shapes are never longer


def skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """Gives the model with its large weights turned into inputs, so that checks need no copy of the numbers."""
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
    """Gives the model with the shapes of all its values, or says why they cannot be."""
    try:
        return onnx.shape_inference.infer_shapes(skeleton(model), check_type=True, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as reason:
        raise BackboneError(
            f"The graph's shapes contradict one another: {str(reason).splitlines()[0]}",
            expected="a graph that ONNX's own shape inference accepts",
        ) from reason


def shapes_of(model: onnx.ModelProto) -> dict[str, Shape]:
    """Gives the shape of every value; None stands for a side that depends on the batch or is not known."""
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
            raise BackboneError(  # a division by zero would end the process, inside of ONNX Runtime
                f"The graph's value {name!r} has the shape {shape}: nothing is left of the image",
                expected="images that are large enough for the network's strides",
                remedy="take a larger size",
            )
        if math.prod(side or 1 for side in shape) > _LARGEST_VALUE:
            raise BackboneError(
                f"The graph's value {name!r} has shape {shape}", expected=f"at most {_LARGEST_VALUE} numbers"
            )
    return shapes
