"""Caffe's file format, as far as a classifier needs it, told to the protobuf library in code.

Fields that are not listed (fillers, learning rates, training) are skipped in both files. The numbers of a blob are
declared as bytes: packed floats have the same form on the wire, and numpy takes them without a detour.
"""

from functools import cache
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

__all__ = ["V1_TYPES", "message"]

# message: field number, then * where it repeats, its type, and its default where that is not nothing
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
    # Its last field is not in the older format: there it stands for an empty one.
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

# The layer types of the older format, by number, under the names of the newer one
V1_TYPES = {
    3: "Concat", 4: "Convolution", 5: "Data", 6: "Dropout", 8: "Flatten", 12: "ImageData", 14: "InnerProduct",
    15: "LRN", 17: "Pooling", 18: "ReLU", 19: "Sigmoid", 20: "Softmax", 21: "SoftmaxWithLoss", 22: "Split", 23: "TanH",
    25: "Eltwise", 26: "Power", 33: "Slice", 35: "AbsVal", 36: "Silence",
}  # fmt: skip

# The words that a V1 prototxt writes for every type there is
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


def message(name: str) -> Any:
    """Gives an empty message of this type."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))()


@cache
def _pool() -> Any:
    """Builds the descriptors in a pool of their own, so that an installed Caffe does not collide with them."""
    file = descriptor_pb2.FileDescriptorProto(name="penult_caffe.proto", package=_PACKAGE, syntax="proto2")
    for name, words in _ENUMS.items():
        # Enum values share one scope, so each enum stands inside a message of its own.
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
