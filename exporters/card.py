"""The card of a backbone: its origin, preprocessing and outputs as plain data.

The card is embedded in the ONNX file. The fingerprint covers the parts that change features (preprocessing and taps).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from penult.errors import BackboneError
from penult.exporters.dataclass_json import dataclass_from_json

__all__ = [
    "INPUT",
    "LOGITS",
    "Card",
    "Decoding",
    "GraphPrecision",
    "Interpolation",
    "Normalisation",
    "Pooling",
    "Precision",
    "Preprocessing",
    "Tap",
]

# The names of a backbone's input and of its class scores.
INPUT = "pixels"
LOGITS = "logits"

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Pooling = Literal["none", "avg", "max", "gem", "flatten"]
GraphPrecision = Literal["fp32", "fp16"]
Precision = Literal["fp32", "fp16", "bf16"]

LONGEST_SIDE = 4096  # limits what a malicious card can allocate


@dataclass(frozen=True)
class Decoding:
    """How an image file is decoded to RGB pixels.

    ``draft`` allows decoding a JPEG at a reduced scale before it is resized.
    """

    version: Literal[1] = 1
    exif_orientation: bool = True
    background: tuple[int, int, int] = (255, 255, 255)
    sixteen_bit: Literal["scaled"] = "scaled"
    icc: Literal["ignored"] = "ignored"
    draft: bool = False

    def __post_init__(self) -> None:
        if len(self.background) != 3 or not all(0 <= level <= 255 for level in self.background):
            raise BackboneError(f"The card's background is {self.background}", expected="three levels from 0 to 255")


@dataclass(frozen=True)
class Preprocessing:
    """How decoded pixels are prepared for the graph: resize, then centre crop.

    ``resize`` is the length of the shorter side (the aspect ratio is kept) or an exact (height, width); ``crop`` is
    the (height, width) of the backbone's input.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    interpolation: Interpolation = "bicubic"
    decoding: Decoding = field(default_factory=Decoding)

    def __post_init__(self) -> None:
        sides = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        for side in (*sides, *self.crop):
            if not 1 <= side <= LONGEST_SIDE:
                raise BackboneError(f"The card specifies a side of {side} pixels", expected=f"1 to {LONGEST_SIDE}")
        if sides[0] < self.crop[0] or sides[1] < self.crop[1]:
            raise BackboneError(
                f"The card resizes to {self.resize} and then crops {self.crop}", expected="a crop that is not larger"
            )


@dataclass(frozen=True)
class Normalisation:
    """How the graph normalises pixels (0 to 255), in the order of ``channels``; for information only."""

    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise BackboneError(
                f"The card's mean is {self.mean} and its std {self.std}",
                expected="three numbers each, with std above 0",
            )
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise BackboneError(f"The card's mean is {self.mean} and its std {self.std}", expected="finite numbers")


@dataclass(frozen=True)
class Tap:
    """One named output: the value ``tensor`` of the source network, pooled to ``width`` numbers.

    ``reduction`` is the side of the image divided by the side of the tensor; ``flops`` counts the operations from the
    pixels to this tap, with a multiply-add as two.
    """

    name: str
    tensor: str
    width: int
    pooling: Pooling = "avg"
    stage: int | None = None
    reduction: int | None = None
    flops: int | None = None

    def __post_init__(self) -> None:
        if not self.name or self.width < 1:
            raise BackboneError(f"The tap {self.name!r} has width {self.width}", expected="a name, and a width above 0")


@dataclass(frozen=True)
class Card:
    """The metadata of a backbone.

    ``weights`` names the files of the weights, ``classes`` names the components of the output ``logits``,
    ``reference`` contains vectors that every machine must reproduce, and ``proof`` the comparison with the source.
    ``precision`` is the precision of the weights; bf16 means an fp32 graph that is run in bfloat16.
    """

    name: str
    source: str
    licence: str
    preprocessing: Preprocessing
    normalisation: Normalisation
    taps: tuple[Tap, ...]
    weights: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    precision: Precision = "fp32"
    reference: Mapping[str, Any] = field(default_factory=dict)
    proof: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [tap.name for tap in self.taps]
        if len(set(names)) != len(names) or "logits" in names:
            raise BackboneError(f"The card names its taps {names}", expected="unique names, none of them logits")

    @property
    def has_random_weights(self) -> bool:
        """Whether the weights are random, so that the features are not useful for classification."""
        return self.weights.get("name") == "random"

    def to_json(self) -> dict[str, Any]:
        """Returns the card as JSON types; ``from_json`` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Reads and validates a card."""
        return dataclass_from_json(cls, data, "card")
