"""Computes a backbone in float16, with float32 out."""

import onnx

from penult.errors import BackboneError

__all__ = ["in_half_precision"]


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
