"""Reads the two files of a Caffe network, in the V1 or the current format, into layers and weights.

The schema has only the fields that a classifier needs; other fields (fillers, learning rates) are skipped. The numbers
of a blob are declared as bytes: packed floats have the same wire format, and numpy reads them directly.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
)
from google.protobuf.message import DecodeError

from penult.errors import BackboneError, MissingFileError

__all__ = ["V1_TYPES", "Blobs", "CaffeLayer", "CaffeNet", "layer_blobs", "new_message", "read_net", "read_weights"]

Blobs = Sequence[npt.NDArray[np.float32]]
_LARGEST_TEXT = 16 << 20
_LARGEST_WEIGHTS = (2 << 30) - 1
_SKIPPED = {"Silence", "Accuracy"}
_INPUTS = {"Input"}
_TRAINING = {"Data", "ImageData", "HDF5Data", "MemoryData", "WindowData", "DummyData"}
# message: fields as "name number[*] type [default]"; * marks a repeated field
_SCHEMA = {
    "BlobShape": "dim 1* int64",
    "BlobProto": "num 1 int32; channels 2 int32; height 3 int32; width 4 int32; data 5 bytes; shape 7 BlobShape; "
    "double_data 8 bytes",
    "NetParameter": "name 1 string; layers 2* V1LayerParameter; input 3* string; input_dim 4* int32; "
    "input_shape 8* BlobShape; layer 100* LayerParameter",
    "NetStateRule": "phase 1 Phase",
    "LayerParameter": "name 1 string; type 2 string; bottom 3* string; top 4* string; blobs 7* BlobProto; "
    "include 8* NetStateRule; exclude 9* NetStateRule; transform_param 100 TransformationParameter; "
    "concat_param 104 ConcatParameter; convolution_param 106 ConvolutionParameter; eltwise_param 110 EltwiseParameter; "
    "inner_product_param 117 InnerProductParameter; lrn_param 118 LRNParameter; pooling_param 121 PoolingParameter; "
    "power_param 122 PowerParameter; relu_param 123 ReLUParameter; softmax_param 125 SoftmaxParameter; "
    "slice_param 126 SliceParameter; prelu_param 131 PReLUParameter; reshape_param 133 ReshapeParameter; "
    "flatten_param 135 FlattenParameter; batch_norm_param 139 BatchNormParameter; elu_param 140 ELUParameter; "
    "scale_param 142 ScaleParameter; input_param 143 InputParameter",
    # The V1 format lacks the last field; here it is always empty.
    "V1LayerParameter": "bottom 2* string; top 3* string; name 4 string; type 5 V1Type; blobs 6* BlobProto; "
    "concat_param 9 ConcatParameter; convolution_param 10 ConvolutionParameter; inner_product_param 17 "
    "InnerProductParameter; lrn_param 18 LRNParameter; pooling_param 19 PoolingParameter; "
    "power_param 21 PowerParameter; eltwise_param 24 EltwiseParameter; relu_param 30 ReLUParameter; "
    "slice_param 31 SliceParameter; include 32* NetStateRule; exclude 33* NetStateRule; "
    "transform_param 36 TransformationParameter; softmax_param 39 SoftmaxParameter; flatten_param 135 FlattenParameter",
    "TransformationParameter": "scale 1 float 1; crop_size 3 uint32; mean_value 5* float",
    "ConvolutionParameter": "num_output 1 uint32; bias_term 2 bool true; pad 3* uint32; kernel_size 4* uint32; "
    "group 5 uint32 1; stride 6* uint32; pad_h 9 uint32; pad_w 10 uint32; kernel_h 11 uint32; kernel_w 12 uint32; "
    "stride_h 13 uint32; stride_w 14 uint32; axis 16 int32 1; dilation 18* uint32",
    "PoolingParameter": "pool 1 PoolMethod; kernel_size 2 uint32; stride 3 uint32 1; pad 4 uint32; kernel_h 5 uint32; "
    "kernel_w 6 uint32; stride_h 7 uint32; stride_w 8 uint32; pad_h 9 uint32; pad_w 10 uint32; "
    "global_pooling 12 bool; round_mode 13 RoundMode",
    "LRNParameter": "local_size 1 uint32 5; alpha 2 float 1; beta 3 float 0.75; norm_region 4 NormRegion; k 5 float 1",
    "InnerProductParameter": "num_output 1 uint32; bias_term 2 bool true; axis 5 int32 1; transpose 6 bool",
    "BatchNormParameter": "eps 3 float 1e-5",
    "ScaleParameter": "axis 1 int32 1; num_axes 2 int32 1; bias_term 4 bool",
    "EltwiseParameter": "operation 1 EltwiseOp SUM; coeff 2* float",
    "ConcatParameter": "concat_dim 1 uint32 1; axis 2 int32 1",
    "SliceParameter": "slice_dim 1 uint32 1; slice_point 2* uint32; axis 3 int32 1",
    "ReLUParameter": "negative_slope 1 float",
    "PReLUParameter": "channel_shared 2 bool",
    "ELUParameter": "alpha 1 float 1",
    "SoftmaxParameter": "axis 2 int32 1",
    "PowerParameter": "power 1 float 1; scale 2 float 1; shift 3 float",
    "FlattenParameter": "axis 1 int32 1; end_axis 2 int32 -1",
    "ReshapeParameter": "shape 1 BlobShape; axis 2 int32; num_axes 3 int32 -1",
    "InputParameter": "shape 1* BlobShape",
}
# The layer types of the V1 format by number, with their current names
V1_TYPES = {
    3: "Concat", 4: "Convolution", 5: "Data", 6: "Dropout", 8: "Flatten", 12: "ImageData", 14: "InnerProduct",
    15: "LRN", 17: "Pooling", 18: "ReLU", 19: "Sigmoid", 20: "Softmax", 21: "SoftmaxWithLoss", 22: "Split", 23: "TanH",
    25: "Eltwise", 26: "Power", 33: "Slice", 35: "AbsVal", 36: "Silence",
}  # fmt: skip
# All type names in a V1 prototxt
_V1_WORDS = (
    "NONE ACCURACY BNLL CONCAT CONVOLUTION DATA DROPOUT EUCLIDEAN_LOSS FLATTEN HDF5_DATA HDF5_OUTPUT IM2COL IMAGE_DATA "
    "INFOGAIN_LOSS INNER_PRODUCT LRN MULTINOMIAL_LOGISTIC_LOSS POOLING RELU SIGMOID SOFTMAX SOFTMAX_LOSS SPLIT TANH "
    "WINDOW_DATA ELTWISE POWER SIGMOID_CROSS_ENTROPY_LOSS HINGE_LOSS MEMORY_DATA ARGMAX THRESHOLD DUMMY_DATA SLICE MVN "
    "ABSVAL SILENCE CONTRASTIVE_LOSS EXP DECONVOLUTION"
)
_ENUMS = {
    "Phase": "TRAIN TEST",
    "PoolMethod": "MAX AVE STOCHASTIC",
    "RoundMode": "CEIL FLOOR",
    "NormRegion": "ACROSS_CHANNELS WITHIN_CHANNEL",
    "EltwiseOp": "PROD SUM MAX",
    "V1Type": _V1_WORDS,
}
_PACKAGE = "penult_caffe"


@dataclass(frozen=True)
class CaffeLayer:
    """One layer of the text file; ``params`` is the whole message, with a field for the options of each type."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    params: Any


@dataclass(frozen=True)
class CaffeNet:
    """The layers in order, and their one input; ``transform`` is the preprocessing in the text."""

    name: str
    input: str
    shape: tuple[int, ...]
    layers: tuple[CaffeLayer, ...]
    transform: Any


def read_net(path: Path) -> CaffeNet:
    """Reads the network in a deploy.prototxt file."""
    text = _content(path, _LARGEST_TEXT)
    net = new_message("NetParameter")
    try:
        text_format.Parse(text.decode("utf-8"), net, allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as reason:
        raise BackboneError(
            f"{path} cannot be read: {str(reason) or type(reason).__name__}",
            expected="the text of a Caffe network, before the comma",
        ) from reason
    layers = [layer for layer in _layers(net) if layer.type not in _SKIPPED and _is_for_testing(layer.params)]
    training = [layer.name for layer in layers if layer.type in _TRAINING]
    if training:
        raise BackboneError(
            f"{path.name} reads its own images in the layer {training[0]!r}",
            expected="a network for deployment, with an input instead of data",
            remedy="pass the deploy.prototxt",
        )
    name, shape, transform = _input(path, net, layers)
    rest = tuple(layer for layer in layers if layer.type not in _INPUTS)
    if not rest:
        raise BackboneError(f"{path.name} contains no layers", expected="a network of layer { … }")
    return CaffeNet(net.name or path.stem, name, shape, rest, transform)


def read_weights(path: Path) -> dict[str, Blobs]:
    """Returns the blobs of a caffemodel by layer name."""
    net = new_message("NetParameter")
    try:
        net.ParseFromString(_content(path, _LARGEST_WEIGHTS))
    except DecodeError as reason:
        raise BackboneError(f"{path} is not a caffemodel, or is damaged", expected="a binary caffemodel") from reason
    found = {
        layer.name: [_numbers(path, layer.name, blob) for blob in layer.blobs] for layer in (*net.layer, *net.layers)
    }
    weights: dict[str, Blobs] = {name: blobs for name, blobs in found.items() if blobs}
    if not weights:
        raise BackboneError(f"{path.name} contains no weights", expected="a trained network in Caffe's layer format")
    return weights


def _content(path: Path, largest: int) -> bytes:
    try:
        if path.stat().st_size > largest:
            raise BackboneError(f"{path} is {path.stat().st_size} bytes long", expected=f"at most {largest}")
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"The Caffe file {path} does not exist") from None
    except OSError as reason:
        raise BackboneError(f"{path} cannot be read: {reason}", expected="a Caffe file") from reason


def _layers(net: Any) -> list[CaffeLayer]:
    """Returns the layers of either format, with the type names of the current format."""
    newer = [(layer, layer.type) for layer in net.layer]
    older = [(layer, V1_TYPES.get(layer.type, str(layer.type))) for layer in net.layers]
    return [CaffeLayer(p.name, kind, tuple(p.bottom), tuple(p.top), p) for p, kind in (*newer, *older)]


def _is_for_testing(params: Any) -> bool:
    """Returns whether a layer is part of the deployed network: phase 1 is the test phase."""
    phases = [rule.phase for rule in params.include if rule.HasField("phase")]
    return (not phases or 1 in phases) and not any(r.HasField("phase") and r.phase == 1 for r in params.exclude)


def _input(path: Path, net: Any, layers: Iterable[CaffeLayer]) -> tuple[str, tuple[int, ...], Any]:
    """Returns the name of the input, its shape, and the transform in the text."""
    found: list[tuple[str, Sequence[int], Any]] = []
    for layer in layers:
        if layer.type in _INPUTS:
            shapes = [shape.dim for shape in layer.params.input_param.shape]
            found += [(top, shapes[min(i, len(shapes) - 1)] if shapes else (), layer.params.transform_param)
                      for i, top in enumerate(layer.tops)]  # fmt: skip
    flat = list(net.input_dim)
    shapes = [shape.dim for shape in net.input_shape] or [flat[i : i + 4] for i in range(0, len(flat), 4)]
    found += [(name, shapes[i] if i < len(shapes) else (), None) for i, name in enumerate(net.input)]
    if len(found) != 1 or len(found[0][1]) != 4 or found[0][1][1] != 3 or min(found[0][1]) < 1:
        raise BackboneError(
            f"The inputs of {path.name} are {[(name, list(shape)) for name, shape, _ in found]}",
            expected="one input of colour images with the shape (N, 3, H, W)",
        )
    return found[0][0], tuple(int(side) for side in found[0][1]), found[0][2]


def _numbers(path: Path, layer: str, blob: Any) -> npt.NDArray[np.float32]:
    """Returns a blob as an array, and never allocates more than the file contains."""
    older = [int(side) for side in (blob.num, blob.channels, blob.height, blob.width)]
    shape = [int(side) for side in blob.shape.dim] if blob.HasField("shape") else older
    packed = np.dtype("<f8") if blob.double_data else np.dtype("<f4")
    data = blob.double_data or blob.data
    if min(shape, default=1) < 0 or math.prod(shape) * packed.itemsize != len(data):
        raise BackboneError(
            f"A blob of the layer {layer!r} in {path.name} has {len(data)} bytes for the shape {shape}",
            expected=f"{math.prod(shape) * packed.itemsize}",
        )
    return np.frombuffer(data, dtype=packed).astype(np.float32).reshape(shape)


def layer_blobs(weights: Mapping[str, Blobs], layer: CaffeLayer, count: int) -> Blobs:
    """Returns at least ``count`` blobs of a layer."""
    blobs = weights.get(layer.name, ())
    if len(blobs) < count:
        raise BackboneError(
            f"The weights contain {len(blobs)} blobs for the layer {layer.name!r}",
            expected=f"{count}, for the type {layer.type}",
            remedy="pass the caffemodel that was trained for this deploy.prototxt",
        )
    return blobs


def new_message(name: str) -> Any:
    """Returns an empty message of this type."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))()


@cache
def _pool() -> Any:
    """Builds the descriptors in a separate pool, so that they do not collide with an installed Caffe."""
    file = descriptor_pb2.FileDescriptorProto(name="penult_caffe.proto", package=_PACKAGE, syntax="proto2")
    for name, words in _ENUMS.items():
        # Enum values share one scope, so each enum is inside its own message.
        holder = file.message_type.add(name=f"{name}Of")
        enum = holder.enum_type.add(name=name)
        for number, word in enumerate(words.split()):
            enum.value.add(name=word, number=number)
    for name, fields in _SCHEMA.items():
        kind = file.message_type.add(name=name)
        for text in fields.split(";"):
            _add_field(kind, text.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add_field(kind: Any, words: list[str]) -> None:
    name, number, type_name, *default = words
    field = kind.field.add(name=name, number=int(number.rstrip("*")))
    field.label = field.LABEL_REPEATED if number.endswith("*") else field.LABEL_OPTIONAL
    plain = getattr(field, f"TYPE_{type_name.upper()}", None)
    if plain is not None:
        field.type = plain
    elif type_name in _ENUMS:
        field.type, field.type_name = field.TYPE_ENUM, f".{_PACKAGE}.{type_name}Of.{type_name}"
    else:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{type_name}"
    if default:
        field.default_value = default[0]
