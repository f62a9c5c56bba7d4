"""Brings any file's graph to one form: a recent opset, float32, weights as weights, no functions, no Dropout."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, inliner, numpy_helper, version_converter

from penult.errors import BackboneError
from penult.exporters.graph.graph_writer import IR_VERSION, OPSET

__all__ = ["in_half_precision", "modernised"]


_FLOATS = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}


def modernised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Gives a new model that computes the same with today's operators, in float32; value names stay."""
    if model.functions:
        model = inliner.inline_local_functions(model)
    model = _of_recent_opset(model)
    _refuse_other_domains(model)
    _store_constants(model.graph)
    _drop_dropout(model.graph)
    _use_float32(model.graph)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    _replace(model.graph.input, inputs)
    _replace(model.graph.value_info, [])
    for value in model.graph.output:  # shapes are inferred anew; what the file says may hold for its batch only
        value.type.tensor_type.ClearField("shape")
    model.ir_version = max(model.ir_version, IR_VERSION)
    del model.metadata_props[:]
    return model


def _of_recent_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if version >= OPSET:
        return copy
    copy.ir_version = max(copy.ir_version, 4)  # older ones ask for every weight among the inputs, and few files comply
    try:
        return version_converter.convert_version(copy, OPSET)
    except Exception as reason:  # the converter raises RuntimeError and its kin for whatever it cannot do
        raise BackboneError(
            f"The graph of opset {version} cannot be brought to opset {OPSET}: {str(reason).strip().splitlines()[0]}",
            expected="operators that ONNX's version converter knows",
            remedy="export the network again with a newer opset",
        ) from reason


def _refuse_other_domains(model: onnx.ModelProto) -> None:
    other = sorted({f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in ("", "ai.onnx")})
    if other:
        raise BackboneError(
            f"The graph uses {', '.join(other[:5])}",
            expected="operators of ai.onnx alone",
            remedy="take the file as it was before an optimiser rewrote it",
        )
    used = [o for o in model.opset_import if o.domain in ("", "ai.onnx")]
    _replace(model.opset_import, used)


def _store_constants(graph: onnx.GraphProto) -> None:
    """Turns Constant nodes into weights, so that there is one kind of constant."""
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
    """Takes out Dropout, which does nothing after training, wherever only its first output is used."""
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
    """Computes in float32 what the file computes in half or double precision; every half is a float32 exactly."""
    for tensor in graph.initializer:
        _widen(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _FLOATS:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
            if attribute.HasField("g"):
                _use_float32(attribute.g)
            if attribute.name in ("to", "dtype") and attribute.i in _FLOATS:
                attribute.i = TensorProto.FLOAT


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _FLOATS:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _replace(repeated: Any, items: Iterable[Any]) -> None:
    kept = list(items)
    del repeated[:]
    repeated.extend(kept)


def in_half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Gives a new model whose weights and work are float16; pixels are uint8 still, and the outputs float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        half: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    except Exception as reason:  # the converter raises whatever its own parts raise
        raise BackboneError(
            f"The graph cannot be computed in half precision: {reason}", remedy="export it with --precision fp32"
        ) from reason
    return half
