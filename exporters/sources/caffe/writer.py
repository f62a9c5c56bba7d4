"""Tracks values, shapes, weights and in-place layers while Caffe's layers are written as ONNX."""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, defs, helper, numpy_helper, shape_inference

from penult.errors import BackboneError, first_line
from penult.exporters.graph.graph_writer import OPSET, GraphWriter, float_value
from penult.exporters.sources.caffe.net import Blobs, CaffeLayer, CaffeNet, layer_blobs

__all__ = ["IDENTITY_LAYERS", "CaffeWriter", "random_blob"]


# These return their input unchanged, so they create no value.
IDENTITY_LAYERS = {"Dropout", "Split"}
_MOST_NUMBERS = 1 << 28  # the largest layer of VGG has 103 million
_ONES = {("BatchNorm", 1), ("BatchNorm", 2), ("Scale", 0)}
_ZEROS = {("BatchNorm", 0), ("Scale", 1)}


class CaffeWriter:
    """The graph during writing. Several layers may write the same blob: the last value gets its name."""

    def __init__(self, net: CaffeNet, weights: Mapping[str, Blobs] | None, size: tuple[int, int]) -> None:
        self._net = net
        self._weights = weights
        self.used: dict[str, list[npt.NDArray[np.float32]]] = {}
        self._graph = GraphWriter()
        self._current = {net.input: net.input}
        self._types = {net.input: helper.make_tensor_type_proto(TensorProto.FLOAT, [1, 3, *size])}
        self._constants: dict[str, onnx.TensorProto] = {}
        self._size = size
        self._last = {
            top: layer.name for layer in net.layers if layer.type not in IDENTITY_LAYERS for top in layer.tops
        }
        self._taken: set[str] = set()

    def shape(self, blob: str) -> tuple[int, ...]:
        """Returns the current shape of a blob for one image."""
        return tuple(side.dim_value for side in self._types[self._value(blob)].tensor_type.shape.dim)

    def blob(self, layer: CaffeLayer, index: int, shape: Sequence[int]) -> npt.NDArray[np.float32]:
        """Returns the weights of a layer, reshaped to ``shape``; random ones if there is no caffemodel."""
        array = (
            self._stored(self._weights, layer, index, shape)
            if self._weights is not None
            else random_blob(layer, index, shape)
        )
        self.used.setdefault(layer.name, []).append(array)
        return array

    def _stored(
        self, weights: Mapping[str, Blobs], layer: CaffeLayer, index: int, shape: Sequence[int]
    ) -> npt.NDArray[np.float32]:
        array = layer_blobs(weights, layer, index + 1)[index]
        if array.size != int(np.prod(shape)):
            raise BackboneError(
                f"The weights of the layer {layer.name!r} have the shape {list(array.shape)}",
                expected=str(list(shape)),
                remedy="pass the caffemodel that was trained for this deploy.prototxt",
            )
        return array.reshape(shape)

    def weights(self, layer: CaffeLayer, index: int, shape: Sequence[int]) -> str:
        """Adds the weights of a layer, and returns their name."""
        return self.constant(self.blob(layer, index, shape))

    def constant(self, array: npt.NDArray[Any] | np.generic) -> str:
        """Adds a constant, and returns its name."""
        name = self._graph.constant(f"constant {len(self._types)}", array)
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        self._types[name] = helper.make_tensor_type_proto(kind, np.shape(array))
        if array.size <= 64:  # shapes may depend on small constants, never on filters
            self._constants[name] = numpy_helper.from_array(np.asarray(array), name)
        return name

    def inner(self, layer: CaffeLayer, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Adds a node inside a layer, and returns the name of its value."""
        return self._add(kind, inputs, [f"{layer.name} {kind.lower()} {len(self._types)}"], attributes)

    def node(
        self, layer: CaffeLayer, kind: str, more: Sequence[str] = (), *, instead: str | None = None, **attributes: Any
    ) -> None:
        """Adds the node that computes a layer's tops from its first bottom (or ``instead``) and ``more``."""
        outputs = [top if self._last[top] == layer.name else f"{top} of {layer.name}" for top in layer.tops]
        self._add(kind, [instead or layer.bottoms[0], *more], outputs, attributes)
        self._current.update(zip(layer.tops, outputs, strict=True))

    def alias(self, top: str, bottom: str) -> None:
        """Makes a blob another name of a value."""
        self._current[top] = self._value(bottom)

    def model(self) -> onnx.ModelProto:
        """Returns the model; its outputs are the values that no layer reads."""
        tops = [self._current[top] for layer in self._net.layers for top in layer.tops]
        outputs = [name for name in dict.fromkeys(tops) if name not in self._taken]
        return self._graph.model(
            self._net.name,
            [float_value(self._net.input, 1, 3, *self._size)],
            [onnx.ValueInfoProto(name=name, type=self._types[name]) for name in outputs],
        )

    def _value(self, name: str) -> str:
        value = self._current.get(name, name)
        if value not in self._types:
            raise BackboneError(f"A layer reads the blob {name!r}", expected="a blob that an earlier layer writes")
        return value

    def _add(self, kind: str, inputs: Sequence[str], outputs: list[str], attributes: Mapping[str, Any]) -> str:
        values = [self._value(name) for name in inputs]
        self._taken.update(values)
        node = self._graph.add(kind, values, outputs, **attributes)
        schema = defs.get_schema(kind, max_inclusive_version=OPSET)
        types = {name: self._types[name] for name in values}
        data = {name: self._constants[name] for name in values if name in self._constants}
        try:
            self._types.update(
                shape_inference.infer_node_outputs(
                    schema, node, types, data, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
                )
            )
        except (shape_inference.InferenceError, ValueError, RuntimeError) as reason:
            raise BackboneError(
                f"The blob {outputs[0]!r} cannot be computed from its inputs: {first_line(reason)}",
                expected="layers with compatible shapes",
            ) from reason
        return outputs[0]


def random_blob(layer: CaffeLayer, index: int, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Returns random filters (He initialisation), zero biases, or neutral statistics for normalising layers."""
    if math.prod(shape) > _MOST_NUMBERS:
        raise BackboneError(
            f"The layer {layer.name!r} needs weights of the shape {list(shape)}",
            expected=f"at most {_MOST_NUMBERS} numbers",
        )
    if (layer.type, index) in _ONES:
        return np.ones(shape, dtype=np.float32)
    if layer.type == "PReLU":
        return np.full(shape, 0.25, dtype=np.float32)
    if (layer.type, index) in _ZEROS or index > 0:
        return np.zeros(shape, dtype=np.float32)
    generator = np.random.default_rng(zlib.crc32(layer.name.encode()))
    return (generator.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))).astype(np.float32)
