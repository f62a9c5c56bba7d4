"""Writes each type of Caffe layer as ONNX nodes, with Caffe's rules for sizes and borders."""

from collections.abc import Callable
from typing import Any

import numpy as np

from penult.errors import BackboneError
from penult.exporters.sources.caffe.net import CaffeLayer
from penult.exporters.sources.caffe.writer import CaffeWriter

__all__ = ["WRITERS"]


def _convolution(writer: CaffeWriter, layer: CaffeLayer) -> None:
    options = layer.params.convolution_param
    kernel = _pair(options, "kernel", "kernel_size", None)
    strides, pads = _pair(options, "stride", "stride", 1), _pair(options, "pad", "pad", 0)
    dilations = _pair(options, "dilation", "dilation", 1)
    value = layer.bottoms[0]
    channels = writer.shape(value)[1]
    filters = (int(options.num_output), channels // max(options.group, 1), *kernel)
    names = [writer.weights(layer, 0, filters)]
    if options.bias_term:
        names.append(writer.weights(layer, 1, filters[:1]))
    writer.node(
        layer,
        "Conv",
        names,
        kernel_shape=list(kernel),
        strides=list(strides),
        pads=[*pads, *pads],
        dilations=list(dilations),
        group=int(options.group),
    )


def _pooling(writer: CaffeWriter, layer: CaffeLayer) -> None:
    options = layer.params.pooling_param
    if options.pool not in (0, 1):
        raise _unknown(layer, "stochastic pooling")
    kind = "MaxPool" if options.pool == 0 else "AveragePool"
    if options.global_pooling:
        writer.node(layer, f"Global{kind}")
        return
    kernel = _pair(options, "kernel", "kernel_size", None)
    strides, pads = _pair(options, "stride", "stride", 1), _pair(options, "pad", "pad", 0)
    sides = writer.shape(layer.bottoms[0])[2:]
    ceil = options.round_mode == 0
    ends = [_end_padding(*of, ceil=ceil) for of in zip(sides, kernel, strides, pads, strict=True)]
    spatial: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(strides)}
    if kind == "MaxPool":
        writer.node(layer, kind, pads=[*pads, *ends], **spatial)
        return
    # In the mean, Caffe counts the declared padding, but not the part of a window beyond it.
    value = layer.bottoms[0]
    if any(pads):
        around = writer.constant(np.array([0, 0, *pads, 0, 0, *pads]))
        value = writer.inner(layer, "Pad", [value, around])
    beyond = [max(0, end - pad) for end, pad in zip(ends, pads, strict=True)]
    writer.node(layer, kind, instead=value, pads=[0, 0, *beyond], count_include_pad=0, **spatial)


def _end_padding(side: int, kernel: int, stride: int, pad: int, *, ceil: bool) -> int:
    """Returns how far the last window extends beyond the end of a side, with Caffe's number of windows."""
    free = side + 2 * pad - kernel
    if free < 0:
        raise BackboneError(f"A pooling window of {kernel} is larger than its map of {side}", expected="a larger image")
    windows = (-(-free // stride) if ceil else free // stride) + 1
    if pad and (windows - 1) * stride >= side + pad:
        windows -= 1
    return max(0, (windows - 1) * stride + kernel - side - pad)


def _inner_product(writer: CaffeWriter, layer: CaffeLayer) -> None:
    options = layer.params.inner_product_param
    if options.axis != 1:
        raise _unknown(layer, f"axis {options.axis}")
    flat = writer.inner(layer, "Flatten", [layer.bottoms[0]])
    taken, given = int(np.prod(writer.shape(layer.bottoms[0])[1:])), int(options.num_output)
    names = [writer.weights(layer, 0, (taken, given) if options.transpose else (given, taken))]
    if options.bias_term:
        names.append(writer.weights(layer, 1, (given,)))
    writer.node(layer, "Gemm", names, instead=flat, transB=0 if options.transpose else 1)


def _lrn(writer: CaffeWriter, layer: CaffeLayer) -> None:
    options = layer.params.lrn_param
    size = int(options.local_size)
    if options.norm_region == 0:
        writer.node(layer, "LRN", size=size, alpha=options.alpha, beta=options.beta, bias=options.k)
        return
    value, half = layer.bottoms[0], (size - 1) // 2
    squares = writer.inner(layer, "Mul", [value, value])
    mean = writer.inner(
        layer, "AveragePool", [squares], kernel_shape=[size, size], pads=[half] * 4, count_include_pad=1
    )
    scaled = writer.inner(layer, "Mul", [mean, writer.constant(np.float32(options.alpha))])
    shifted = writer.inner(layer, "Add", [scaled, writer.constant(np.float32(1))])
    divisor = writer.inner(layer, "Pow", [shifted, writer.constant(np.float32(options.beta))])
    writer.node(layer, "Div", [divisor])


def _batch_norm(writer: CaffeWriter, layer: CaffeLayer) -> None:
    """Writes a BatchNormalization; divides the stored sums by their count, the third blob."""
    channels = writer.shape(layer.bottoms[0])[1]
    mean, variance, count = (writer.blob(layer, index, shape) for index, shape in enumerate([(channels,)] * 2 + [(1,)]))
    factor = 0.0 if count[0] == 0 else 1.0 / np.float64(count[0])
    epsilon = layer.params.batch_norm_param.eps
    numbers = [np.ones(channels), np.zeros(channels), mean * factor, variance * factor]
    names = [writer.constant(np.asarray(array, dtype=np.float32)) for array in numbers]
    writer.node(layer, "BatchNormalization", names, epsilon=epsilon)


def _scale(writer: CaffeWriter, layer: CaffeLayer) -> None:
    options = layer.params.scale_param
    rank = len(writer.shape(layer.bottoms[0]))
    if len(layer.bottoms) == 2:
        factor = layer.bottoms[1]
        if len(writer.shape(factor)) != rank:
            to = writer.constant(np.array([0, 0, *[1] * (rank - 2)]))
            factor = writer.inner(layer, "Reshape", [factor, to])
        writer.node(layer, "Mul", [factor])
        return
    if options.axis != 1 or options.num_axes != 1:
        raise _unknown(layer, "scaling of dimensions other than the channels")
    channels = writer.shape(layer.bottoms[0])[1]
    shape = (1, channels, *[1] * (rank - 2))
    factor = writer.constant(writer.blob(layer, 0, (channels,)).reshape(shape))
    if not options.bias_term:
        writer.node(layer, "Mul", [factor])
        return
    scaled = writer.inner(layer, "Mul", [layer.bottoms[0], factor])
    writer.node(layer, "Add", [writer.constant(writer.blob(layer, 1, (channels,)).reshape(shape))], instead=scaled)


def _eltwise(writer: CaffeWriter, layer: CaffeLayer) -> None:
    options = layer.params.eltwise_param
    kind = {0: "Mul", 1: "Add", 2: "Max"}[options.operation]
    values = list(layer.bottoms)
    if kind == "Add" and options.coeff:
        values = [
            value if coeff == 1 else writer.inner(layer, "Mul", [value, writer.constant(np.float32(coeff))])
            for value, coeff in zip(values, options.coeff, strict=True)
        ]
    while len(values) > 2:
        values[:2] = [writer.inner(layer, kind, values[:2])]
    writer.node(layer, kind, values[1:], instead=values[0])


def _concat(writer: CaffeWriter, layer: CaffeLayer) -> None:
    options = layer.params.concat_param
    axis = options.axis if options.HasField("axis") else options.concat_dim
    writer.node(layer, "Concat", list(layer.bottoms[1:]), axis=int(axis))


def _slice(writer: CaffeWriter, layer: CaffeLayer) -> None:
    options = layer.params.slice_param
    axis = int(options.axis if options.HasField("axis") else options.slice_dim)
    whole = writer.shape(layer.bottoms[0])[axis]
    points = [0, *options.slice_point, whole] if options.slice_point else None
    parts = np.diff(points) if points else np.full(len(layer.tops), whole // len(layer.tops))
    writer.node(layer, "Split", [writer.constant(np.asarray(parts, dtype=np.int64))], axis=axis)


def _relu(writer: CaffeWriter, layer: CaffeLayer) -> None:
    slope = layer.params.relu_param.negative_slope
    if slope:
        writer.node(layer, "LeakyRelu", alpha=slope)
    else:
        writer.node(layer, "Relu")


def _prelu(writer: CaffeWriter, layer: CaffeLayer) -> None:
    shape = writer.shape(layer.bottoms[0])
    slopes = 1 if layer.params.prelu_param.channel_shared else shape[1]
    numbers = writer.blob(layer, 0, (slopes,)).reshape(slopes, *[1] * (len(shape) - 2))
    writer.node(layer, "PRelu", [writer.constant(numbers)])


def _power(writer: CaffeWriter, layer: CaffeLayer) -> None:
    options, value = layer.params.power_param, layer.bottoms[0]
    for kind, number, idle in (("Mul", options.scale, 1), ("Add", options.shift, 0), ("Pow", options.power, 1)):
        if number != idle:
            value = writer.inner(layer, kind, [value, writer.constant(np.float32(number))])
    writer.node(layer, "Identity", instead=value)


def _softmax(writer: CaffeWriter, layer: CaffeLayer) -> None:
    writer.node(layer, "Softmax", axis=int(layer.params.softmax_param.axis))


def _flatten(writer: CaffeWriter, layer: CaffeLayer) -> None:
    options = layer.params.flatten_param
    if options.axis != 1 or options.end_axis != -1:
        raise _unknown(layer, "flattening of some dimensions")
    writer.node(layer, "Flatten")


def _reshape(writer: CaffeWriter, layer: CaffeLayer) -> None:
    options = layer.params.reshape_param
    if options.axis != 0 or options.num_axes != -1:
        raise _unknown(layer, "reshaping of some dimensions")
    writer.node(layer, "Reshape", [writer.constant(np.array(options.shape.dim, dtype=np.int64))])


def _plain(kind: str, **attributes: Any) -> Callable[[CaffeWriter, CaffeLayer], None]:
    return lambda writer, layer: writer.node(layer, kind, **attributes)


def _same(writer: CaffeWriter, layer: CaffeLayer) -> None:
    for top in layer.tops:
        writer.alias(top, layer.bottoms[0])


def _pair(options: Any, stem: str, repeated: str, default: int | None) -> tuple[int, int]:
    """Returns (height, width) of an option that is one number, two numbers, or two fields."""
    high, wide = f"{stem}_h", f"{stem}_w"
    names = options.DESCRIPTOR.fields_by_name
    given = getattr(options, repeated)
    if high in names and (options.HasField(high) or options.HasField(wide)):
        values = [getattr(options, high), getattr(options, wide)]
    else:
        values = [given] if isinstance(given, int) else list(given) or [default or 0]
    if repeated != "pad" and min(values) < 1:
        raise BackboneError(f"A layer has the {repeated} {values}", expected="a number above 0")
    return int(values[0]), int(values[-1])


def _unknown(layer: CaffeLayer, what: str) -> BackboneError:
    return BackboneError(
        f"The layer {layer.name!r} of type {layer.type} uses {what}, which is not supported",
        expected="a common classifier",
    )


WRITERS: dict[str, Callable[[CaffeWriter, CaffeLayer], None]] = {
    "AbsVal": _plain("Abs"),
    "BatchNorm": _batch_norm,
    "Concat": _concat,
    "Convolution": _convolution,
    "ConvolutionDepthwise": _convolution,
    "DepthwiseConvolution": _convolution,
    "Dropout": _same,
    "ELU": lambda writer, layer: writer.node(layer, "Elu", alpha=layer.params.elu_param.alpha),
    "Eltwise": _eltwise,
    "Flatten": _flatten,
    "InnerProduct": _inner_product,
    "LRN": _lrn,
    "PReLU": _prelu,
    "Pooling": _pooling,
    "Power": _power,
    "ReLU": _relu,
    "ReLU6": lambda writer, layer: writer.node(
        layer, "Clip", [writer.constant(np.float32(0)), writer.constant(np.float32(6))]
    ),
    "Reshape": _reshape,
    "Scale": _scale,
    "Sigmoid": _plain("Sigmoid"),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _same,
    "TanH": _plain("Tanh"),
}
