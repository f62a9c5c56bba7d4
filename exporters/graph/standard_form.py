"""Converts the graph of any file to one form: a recent opset, float32, initializers, no functions, a dynamic batch."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, inliner, numpy_helper, version_converter

from penult.errors import BackboneError, first_line
from penult.exporters.graph.graph_view import GraphView, attribute, network_inputs
from penult.exporters.graph.graph_writer import IR_VERSION, OPSET

__all__ = ["to_half_precision", "to_standard_form", "with_dynamic_batch"]

_FLOATS = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}


def to_standard_form(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a new model that computes the same with recent operators in float32; value names do not change."""
    if model.functions:
        model = inliner.inline_local_functions(model)
    model = _with_recent_opset(model)
    _refuse_other_domains(model)
    _store_constants(model.graph)
    _drop_dropout(model.graph)
    _use_float32(model.graph)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    _replace(model.graph.input, inputs)
    _replace(model.graph.value_info, [])
    for value in model.graph.output:  # the shapes in the file may be valid for its batch size only
        value.type.tensor_type.ClearField("shape")
    model.ir_version = max(model.ir_version, IR_VERSION)
    del model.metadata_props[:]
    return model


def _with_recent_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if version >= OPSET:
        return copy
    copy.ir_version = max(copy.ir_version, 4)  # older versions require weights among the inputs
    try:
        return version_converter.convert_version(copy, OPSET)
    except Exception as reason:  # the converter raises RuntimeError and others
        raise BackboneError(
            f"The graph cannot be converted from opset {version} to {OPSET}: {first_line(reason)}",
            expected="operators that ONNX's version converter supports",
            remedy="export the network again with a newer opset",
        ) from reason


def _refuse_other_domains(model: onnx.ModelProto) -> None:
    other = sorted({f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in ("", "ai.onnx")})
    if other:
        raise BackboneError(
            f"The graph uses {', '.join(other[:5])}",
            expected="only operators of ai.onnx",
            remedy="use the file from before an optimiser rewrote it",
        )
    used = [o for o in model.opset_import if o.domain in ("", "ai.onnx")]
    _replace(model.opset_import, used)


def _store_constants(graph: onnx.GraphProto) -> None:
    """Converts Constant nodes to initializers."""
    kept = []
    for node in graph.node:
        array = _constant(node)
        if array is None:
            kept.append(node)
        else:
            graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    _replace(graph.node, kept)


def _constant(node: onnx.NodeProto) -> npt.NDArray[Any] | None:
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    match attribute.name:
        case "value":
            return numpy_helper.to_array(attribute.t)
        case "value_float" | "value_floats":
            return np.array(onnx.helper.get_attribute_value(attribute), dtype=np.float32)
        case "value_int" | "value_ints":
            return np.array(onnx.helper.get_attribute_value(attribute), dtype=np.int64)
    return None


def _drop_dropout(graph: onnx.GraphProto) -> None:
    """Removes Dropout nodes whose mask is not used: they do nothing after training."""
    outputs = {value.name for value in graph.output}
    read = {name for node in graph.node for name in node.input} | outputs
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        masks_used = any(name in read for name in node.output[1:])
        if node.op_type == "Dropout" and not masks_used and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    _replace(graph.node, kept)


def _use_float32(graph: onnx.GraphProto) -> None:
    """Converts half and double precision to float32; float32 represents every half exactly."""
    for tensor in graph.initializer:
        _widen(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _FLOATS:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for item in node.attribute:
            if item.HasField("t"):
                _widen(item.t)
            if item.HasField("g"):
                _use_float32(item.g)
            if item.name in ("to", "dtype") and item.i in _FLOATS:
                item.i = TensorProto.FLOAT


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _FLOATS:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _replace(repeated: Any, items: Iterable[Any]) -> None:
    kept = list(items)
    del repeated[:]
    repeated.extend(kept)


def to_half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a new model that computes in float16; its input remains uint8, and its outputs float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        half: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    except Exception as reason:  # the converter documents no exceptions
        raise BackboneError(
            f"The graph cannot be converted to half precision: {reason}", remedy="export it with --precision fp32"
        ) from reason
    return half


def with_dynamic_batch(model: onnx.ModelProto, sides: tuple[int, int, int]) -> onnx.ModelProto:
    """Returns a copy whose input is (N, *sides), without the file's own batch size in its constants."""
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
                _free_reshape(copy.graph, view, node, batch)
            elif node.op_type == "Squeeze":
                _free_squeeze(copy.graph, view, node, batch)
        _declare(copy, ["N", *sides])
    return copy


def _declare(model: onnx.ModelProto, sides: list[int | str]) -> None:
    (value,) = network_inputs(model.graph)
    kind = value.type.tensor_type.elem_type
    value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, sides))


def _free_reshape(graph: onnx.GraphProto, view: GraphView, node: onnx.NodeProto, batch: int) -> None:
    target = view.numbers(node.input[1])
    if not target or node.input[0] not in view.data_dependent or attribute(node, "allowzero", 0):
        return
    before = view.shapes.get(node.input[0], ())
    if target[0] == batch and before[:1] == (batch,):
        target[0] = 0  # 0 keeps the batch size
    elif -1 not in target:
        target[0] = -1  # the first side takes the batch size
    _set_numbers(graph, node, target)


def _free_squeeze(graph: onnx.GraphProto, view: GraphView, node: onnx.NodeProto, batch: int) -> None:
    """Restricts a Squeeze to the other sides, so that it keeps a batch of 1."""
    shape = view.shapes.get(node.input[0], ())
    if shape[:1] != (batch,) or node.input[0] not in view.data_dependent:
        return
    given = view.numbers(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    axes = [a % len(shape) for a in given] if given else [i for i, side in enumerate(shape) if side == 1]
    kept = [axis for axis in axes if axis != 0]
    if not kept:
        raise BackboneError(
            f"The node {node.name or node.output[0]!r} of the graph removes the batch dimension",
            expected="a network that keeps the batch dimension",
            remedy="pass --penultimate, or export the network with a dynamic batch",
        )
    _set_numbers(graph, node, kept)


def _set_numbers(graph: onnx.GraphProto, node: onnx.NodeProto, numbers: list[int]) -> None:
    name = f"{node.output[0]}.{node.op_type.lower()}"
    graph.initializer.append(numpy_helper.from_array(np.array(numbers, dtype=np.int64), name))
    del node.input[1:]
    node.input.append(name)
