"""Runs Caffe's layers in numpy, by their definitions, as the reference for the proof of an export.

It is slow and shares no code with the ONNX writer. OpenCV's reader is faster, but ignores ``k`` of LRN, the rounding
of pools and the phases of layers, so a correct export may differ from it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from penult.exporters.card import Normalisation, Preprocessing, Tap
from penult.exporters.graph.pooling import pool_in_numpy
from penult.exporters.sources.base import RunSource, prepare_image
from penult.exporters.sources.caffe.net import Blobs, CaffeNet

__all__ = ["LAYERS", "numpy_runner"]

Array: TypeAlias = Any  # numpy arrays with any number of dimensions


def numpy_runner(
    net: CaffeNet, weights: Mapping[str, Blobs], preprocessing: Preprocessing, normalisation: Normalisation
) -> RunSource:
    """Returns a function that runs the network with these blobs by layer, in Caffe's order."""

    def run(paths: Sequence[Path], taps: Sequence[Tap]) -> Mapping[str, Array]:
        rows: dict[str, list[Array]] = {}
        for path in paths:
            values = _values(net, weights, prepare_image(path, preprocessing, normalisation))
            for tap in taps:
                if tap.tensor in values:
                    rows.setdefault(tap.name, []).append(pool_in_numpy(values[tap.tensor], tap.pooling))
        return {name: np.concatenate(parts) for name, parts in rows.items()}

    return run


def _values(net: CaffeNet, weights: Mapping[str, Blobs], image: Array) -> dict[str, Array]:
    """Returns the last value of every blob, and earlier values under the name ``blob of layer``."""
    values = {net.input: image}
    for layer in net.layers:
        bottoms = [values[name] for name in layer.bottoms]
        value = LAYERS[layer.type](layer.params, weights.get(layer.name, ()), bottoms)
        for top, each in zip(layer.tops, value if isinstance(value, list) else [value] * len(layer.tops), strict=True):
            values[top] = values[f"{top} of {layer.name}"] = each
    return values


def _sides(options: Any, stem: str, field: str, default: int) -> tuple[int, int]:
    names = {item.name for item, _ in options.ListFields()}
    if {f"{stem}_h", f"{stem}_w"} & names:
        return getattr(options, f"{stem}_h"), getattr(options, f"{stem}_w")
    given = getattr(options, field)
    listed = [given] if isinstance(given, int) else list(given) or [default]
    return listed[0], listed[-1]


def _convolution(params: Any, blobs: Blobs, bottoms: list[Array]) -> Array:
    options = params.convolution_param
    (image,), groups = bottoms[0], int(options.group)
    kernel, (down, right) = _sides(options, "kernel", "kernel_size", 1), _sides(options, "stride", "stride", 1)
    (top, left), (tall, wide) = _sides(options, "pad", "pad", 0), _sides(options, "dilation", "dilation", 1)
    filters = blobs[0].reshape(groups, int(options.num_output) // groups, -1, *kernel)
    padded = np.pad(image, ((0, 0), (top, top), (left, left)))
    reach = ((kernel[0] - 1) * tall + 1, (kernel[1] - 1) * wide + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2))[:, ::down, ::right, ::tall, ::wide]
    parts = np.split(windows, groups)
    made = np.concatenate(
        [np.einsum("ocij,chwij->ohw", f, w, optimize=True) for f, w in zip(filters, parts, strict=True)]
    )
    return (made + blobs[1].reshape(-1, 1, 1) if options.bias_term else made)[None]


def _pooling(params: Any, _: Blobs, bottoms: list[Array]) -> Array:
    options, (image,) = params.pooling_param, bottoms[0]
    reduce = np.max if options.pool == 0 else np.sum
    if options.global_pooling:
        whole = reduce(image, axis=(1, 2), keepdims=True)
        return (whole if options.pool == 0 else whole / image[0].size)[None]
    kernel, strides = _sides(options, "kernel", "kernel_size", 1), _sides(options, "stride", "stride", 1)
    pads = _sides(options, "pad", "pad", 0)
    ceil = options.round_mode == 0
    spans = [_windows(*of, ceil=ceil) for of in zip(image.shape[1:], kernel, strides, pads, strict=True)]
    made = np.empty((image.shape[0], len(spans[0]), len(spans[1])))
    for row, (top, bottom, high) in enumerate(spans[0]):
        for column, (left, right, wide) in enumerate(spans[1]):
            cut = reduce(image[:, top:bottom, left:right], axis=(1, 2))
            made[:, row, column] = cut if options.pool == 0 else cut / (high * wide)
    return made[None]


def _windows(side: int, kernel: int, stride: int, pad: int, *, ceil: bool) -> list[tuple[int, int, int]]:
    """Returns the start, end and divisor of each pooling window along a side."""
    count = int((np.ceil if ceil else np.floor)((side + 2 * pad - kernel) / stride)) + 1
    if pad and (count - 1) * stride >= side + pad:
        count -= 1
    begins = [index * stride - pad for index in range(count)]
    ends = [min(begin + kernel, side + pad) for begin in begins]
    return [(max(b, 0), min(e, side), e - b) for b, e in zip(begins, ends, strict=True)]


def _inner_product(params: Any, blobs: Blobs, bottoms: list[Array]) -> Array:
    options = params.inner_product_param
    flat, outputs = bottoms[0].reshape(len(bottoms[0]), -1), int(options.num_output)
    matrix = blobs[0].reshape(-1, outputs) if options.transpose else blobs[0].reshape(outputs, -1).T
    return flat @ matrix + (blobs[1].ravel() if options.bias_term else 0)


def _lrn(params: Any, _: Blobs, bottoms: list[Array]) -> Array:
    options, (image,) = params.lrn_param, bottoms[0]
    half, squares = (int(options.local_size) - 1) // 2, image.astype(np.float64) ** 2
    size = int(options.local_size)
    if options.norm_region == 0:
        around = np.pad(squares, ((half, half), (0, 0), (0, 0)))
        total = sum(around[i : i + len(image)] for i in range(size)) / size
        return (image / (options.k + options.alpha * total) ** options.beta)[None]
    around = np.pad(squares, ((0, 0), (half, half), (half, half)))
    mean = np.lib.stride_tricks.sliding_window_view(around, (size, size), axis=(1, 2)).mean(axis=(3, 4))
    return (image / (1 + options.alpha * mean) ** options.beta)[None]


def _batch_norm(params: Any, blobs: Blobs, bottoms: list[Array]) -> Array:
    mean, variance, count = (blob.astype(np.float64).ravel() for blob in blobs)
    total = count[0] or np.inf
    shape = (1, -1, *[1] * (bottoms[0].ndim - 2))
    deviation = np.sqrt(variance / total + params.batch_norm_param.eps)
    return (bottoms[0] - (mean / total).reshape(shape)) / deviation.reshape(shape)


def _scale(params: Any, blobs: Blobs, bottoms: list[Array]) -> Array:
    shape = (1, -1, *[1] * (bottoms[0].ndim - 2))
    if len(bottoms) == 2:
        return bottoms[0] * bottoms[1].reshape(len(bottoms[1]), *shape[1:])
    scaled = bottoms[0] * blobs[0].reshape(shape)
    return scaled + blobs[1].reshape(shape) if params.scale_param.bias_term else scaled


def _eltwise(params: Any, _: Blobs, bottoms: list[Array]) -> Array:
    options, stacked = params.eltwise_param, np.stack(bottoms)
    if options.operation == 1:
        return np.tensordot(np.array(list(options.coeff) or [1] * len(bottoms)), stacked, axes=1)
    return stacked.prod(axis=0) if options.operation == 0 else stacked.max(axis=0)


def _concat(params: Any, _: Blobs, bottoms: list[Array]) -> Array:
    options = params.concat_param
    return np.concatenate(bottoms, axis=options.axis if options.HasField("axis") else options.concat_dim)


def _relu(params: Any, _: Blobs, bottoms: list[Array]) -> Array:
    return np.where(bottoms[0] > 0, bottoms[0], bottoms[0] * params.relu_param.negative_slope)


def _power(params: Any, _: Blobs, bottoms: list[Array]) -> Array:
    options = params.power_param
    return np.asarray((options.shift + options.scale * bottoms[0]) ** options.power)


def _prelu(_: Any, blobs: Blobs, bottoms: list[Array]) -> Array:
    slopes = blobs[0].reshape(1, -1, *[1] * (bottoms[0].ndim - 2))
    return np.maximum(bottoms[0], 0) + slopes * np.minimum(bottoms[0], 0)


def _elu(params: Any, _: Blobs, bottoms: list[Array]) -> Array:
    return np.maximum(bottoms[0], 0) + params.elu_param.alpha * np.expm1(np.minimum(bottoms[0], 0))


def _slice(params: Any, _: Blobs, bottoms: list[Array]) -> list[Array]:
    options = params.slice_param
    axis = options.axis if options.HasField("axis") else options.slice_dim
    return np.split(bottoms[0], list(options.slice_point) or len(params.top), axis=axis)


def _reshape(params: Any, _: Blobs, bottoms: list[Array]) -> Array:
    sides = list(params.reshape_param.shape.dim)
    return bottoms[0].reshape([side or bottoms[0].shape[index] for index, side in enumerate(sides)])


def _softmax(params: Any, _: Blobs, bottoms: list[Array]) -> Array:
    axis = params.softmax_param.axis
    raised = np.exp(bottoms[0] - bottoms[0].max(axis=axis, keepdims=True))
    return np.asarray(raised / raised.sum(axis=axis, keepdims=True))


def _elementwise(function: Callable[[Array], Array]) -> Callable[[Any, Blobs, list[Array]], Array]:
    return lambda params, blobs, bottoms: function(bottoms[0])


LAYERS: dict[str, Callable[[Any, Blobs, list[Array]], Any]] = {
    "AbsVal": _elementwise(np.abs),
    "BatchNorm": _batch_norm,
    "Concat": _concat,
    "Convolution": _convolution,
    "ConvolutionDepthwise": _convolution,
    "DepthwiseConvolution": _convolution,
    "Dropout": _elementwise(lambda value: value),
    "ELU": _elu,
    "Eltwise": _eltwise,
    "Flatten": _elementwise(lambda value: value.reshape(len(value), -1)),
    "InnerProduct": _inner_product,
    "LRN": _lrn,
    "PReLU": _prelu,
    "Pooling": _pooling,
    "Power": _power,
    "ReLU": _relu,
    "ReLU6": _elementwise(lambda value: np.clip(value, 0, 6)),
    "Reshape": _reshape,
    "Scale": _scale,
    "Sigmoid": _elementwise(lambda value: 1 / (1 + np.exp(-value))),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _elementwise(lambda value: value),
    "TanH": _elementwise(np.tanh),
}
