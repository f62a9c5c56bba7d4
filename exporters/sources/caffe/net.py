"""Reads Caffe's two files, of the older format and the newer, into one list of layers with their weights."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from penult.errors import BackboneError, MissingFileError
from penult.exporters.sources.caffe.schema import V1_TYPES, message

__all__ = ["Blobs", "CaffeNet", "Layer", "blobs_of", "read_net", "read_weights"]

Blobs = Sequence[npt.NDArray[np.float32]]

_LARGEST_TEXT = 16 << 20
_LARGEST_WEIGHTS = (2 << 30) - 1
_SKIPPED = {"Silence", "Accuracy"}
_INPUTS = {"Input"}
_TRAINING = {"Data", "ImageData", "HDF5Data", "MemoryData", "WindowData", "DummyData"}


@dataclass(frozen=True)
class Layer:
    """One layer as the text describes it; ``params`` is the whole message, with a field for each type's options."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    params: Any


@dataclass(frozen=True)
class CaffeNet:
    """The layers in order, and the one input they start from; ``transform`` is what the text says of pixels."""

    name: str
    input: str
    shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    transform: Any


def read_net(path: Path) -> CaffeNet:
    """Reads a deploy.prototxt."""
    text = _content(path, _LARGEST_TEXT)
    net = message("NetParameter")
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
            expected="the network as it is deployed, with an input and no data",
            remedy="give the deploy.prototxt",
        )
    name, shape, transform = _input(path, net, layers)
    rest = tuple(layer for layer in layers if layer.type not in _INPUTS)
    if not rest:
        raise BackboneError(f"{path.name} holds no layers", expected="a network of layer { … }")
    return CaffeNet(net.name or path.stem, name, shape, rest, transform)


def read_weights(path: Path) -> dict[str, Blobs]:
    """Reads a caffemodel: the blobs of every layer that has any, by the layer's name."""
    net = message("NetParameter")
    try:
        net.ParseFromString(_content(path, _LARGEST_WEIGHTS))
    except DecodeError as reason:
        raise BackboneError(f"{path} is no caffemodel, or is damaged", expected="a binary caffemodel") from reason
    found = {
        layer.name: [_numbers(path, layer.name, blob) for blob in layer.blobs] for layer in (*net.layer, *net.layers)
    }
    weights: dict[str, Blobs] = {name: blobs for name, blobs in found.items() if blobs}
    if not weights:
        raise BackboneError(f"{path.name} holds no weights", expected="a trained network in Caffe's layer format")
    return weights


def _content(path: Path, largest: int) -> bytes:
    try:
        if path.stat().st_size > largest:
            raise BackboneError(f"{path} is {path.stat().st_size} bytes long", expected=f"at most {largest}")
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"There is no Caffe file {path}") from None
    except OSError as reason:
        raise BackboneError(f"{path} cannot be read: {reason}", expected="a Caffe file") from reason


def _layers(net: Any) -> list[Layer]:
    """Gives the layers of either format under the newer format's type names."""
    newer = [(layer, layer.type) for layer in net.layer]
    older = [(layer, V1_TYPES.get(layer.type, str(layer.type))) for layer in net.layers]
    return [Layer(p.name, kind, tuple(p.bottom), tuple(p.top), p) for p, kind in (*newer, *older)]


def _is_for_testing(params: Any) -> bool:
    """Tells whether a layer belongs to the network that is deployed: phase 1 is the test phase."""
    phases = [rule.phase for rule in params.include if rule.HasField("phase")]
    return (not phases or 1 in phases) and not any(r.HasField("phase") and r.phase == 1 for r in params.exclude)


def _input(path: Path, net: Any, layers: Iterable[Layer]) -> tuple[str, tuple[int, ...], Any]:
    """Gives the input's name, its shape, and the transform that the text asks for."""
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
            f"{path.name} takes {[(name, list(shape)) for name, shape, _ in found]}",
            expected="one input of colour images, of the shape (N, 3, H, W)",
        )
    return found[0][0], tuple(int(side) for side in found[0][1]), found[0][2]


def _numbers(path: Path, layer: str, blob: Any) -> npt.NDArray[np.float32]:
    """Gives a blob as an array; what is allocated is what the file holds."""
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


def blobs_of(weights: Mapping[str, Blobs], layer: Layer, count: int) -> Blobs:
    """Gives the blobs of a layer, at least ``count`` of them."""
    blobs = weights.get(layer.name, ())
    if len(blobs) < count:
        raise BackboneError(
            f"The weights hold {len(blobs)} blobs for the layer {layer.name!r}",
            expected=f"{count}, for the type {layer.type}",
            remedy="give the caffemodel that was trained for this deploy.prototxt",
        )
    return blobs
