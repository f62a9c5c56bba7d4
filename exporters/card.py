"""The card of a backbone: where it came from, how pixels reach it, and what it gives, as plain data.

The card is embedded in the ONNX file. What changes a feature (preprocessing and taps) is part of the fingerprint; the
rest only tells.
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

LONGEST_SIDE = 4096  # a hostile card must not make the reader allocate without bound


@dataclass(frozen=True)
class Decoding:
    """How an image file becomes RGB pixels, wherever a file leaves a choice.

    ``draft`` tells whether a JPEG may be decoded at a reduced scale before it is resized.
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
    """What happens to decoded pixels before the graph: resize, then a crop from the centre.

    ``resize`` is the length of the shorter side (the aspect is kept) or an exact (height, width); ``crop`` is the
    (height, width) that the backbone takes.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    interpolation: Interpolation = "bicubic"
    decoding: Decoding = field(default_factory=Decoding)

    def __post_init__(self) -> None:
        sides = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        for side in (*sides, *self.crop):
            if not 1 <= side <= LONGEST_SIDE:
                raise BackboneError(f"The card asks for a side of {side} pixels", expected=f"1 to {LONGEST_SIDE}")
        if sides[0] < self.crop[0] or sides[1] < self.crop[1]:
            raise BackboneError(
                f"The card resizes to {self.resize} and then crops {self.crop}", expected="a crop no larger than that"
            )


@dataclass(frozen=True)
class Normalisation:
    """What the graph does to pixels of 0 to 255, in the order of ``channels``; it tells, the graph does it."""

    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise BackboneError(
                f"The card's mean is {self.mean} and its std {self.std}", expected="three numbers each, std above 0"
            )
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise BackboneError(f"The card's mean is {self.mean} and its std {self.std}", expected="finite numbers")


@dataclass(frozen=True)
class Tap:
    """One named output: the value that the source network calls ``tensor``, pooled to ``width`` numbers.

    ``reduction`` is how many times smaller the tensor's sides are than the image's; ``flops`` counts the work from
    the pixels up to here, a multiply-add as two.
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
    """Everything that a backbone says about itself.

    ``weights`` names the files that the numbers came from, ``classes`` the components of the output ``logits``,
    ``reference`` the vectors that every machine must find again, ``proof`` what was measured against the source.
    ``precision`` is that of the graph's numbers; bf16 stands for a graph of fp32 that is computed in bfloat16.
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
            raise BackboneError(f"The card names its taps {names}", expected="names that differ, none of them logits")

    @property
    def has_random_weights(self) -> bool:
        """Whether the weights were drawn and never trained, so that the features show the architecture alone."""
        return self.weights.get("name") == "random"

    def to_json(self) -> dict[str, Any]:
        """Gives the card as JSON's own types; ``from_json`` reads it back equal."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Reads a card, and says what is wrong with one that a stranger wrote."""
        return dataclass_from_json(cls, data, "card")
