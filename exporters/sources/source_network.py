"""What a source gives, so that the rest of an export is the same for every source."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from penult.exporters.card import GraphPrecision, Normalisation, Preprocessing, Tap
from penult.exporters.graph.landmarks import Landmarks
from penult.exporters.graph.tap_requests import TapRequest
from penult.exporters.sources.hints import Hints

__all__ = ["Decode", "ExportRequest", "Exporter", "Provenance", "RunSource", "SourceNetwork"]

Decode: TypeAlias = Callable[[bytes, Preprocessing], npt.NDArray[np.uint8]]
"""Makes the pixels (H, W, 3) of an image file's bytes, exactly as a card's preprocessing says."""

RunSource: TypeAlias = Callable[[Sequence[Path], Sequence[Tap]], Mapping[str, npt.NDArray[Any]]]
"""Runs the source framework on image files, with its own decoding, preprocessing and pooling.

Gives rows (files, width) by the names of those taps that it can compute, one at least; the scores are asked for as a
tap called ``logits``. Each tap's ``tensor`` is the value's name in the source's own model."""


@dataclass(frozen=True)
class ExportRequest:
    """What the user asks of an export.

    ``taps`` None takes all that are found; ``size`` is the side of the input where it is not the network's own;
    ``weights`` is ``random``, a local file, or None for the source's own.
    """

    taps: tuple[TapRequest, ...] | None = None
    precision: GraphPrecision = "fp32"
    size: int | None = None
    weights: str | None = None
    hints: Hints = field(default_factory=Hints)


@dataclass(frozen=True)
class Provenance:
    """Where a network comes from, as its card tells it."""

    source: str
    licence: str = "unknown"
    weights: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceNetwork:
    """A pretrained network on its way to a backbone.

    ``model`` takes one float image batch, (N, 3, H, W) or (N, H, W, 3), after ``normalisation``; its batch may be
    fixed and its opset old. ``run`` is the source framework itself, or None where it is not installed;
    ``run_with`` names it, and ``run_precision`` is fp16 where it computes in half precision.
    """

    name: str
    model: onnx.ModelProto
    preprocessing: Preprocessing
    normalisation: Normalisation
    provenance: Provenance
    classes: tuple[str, ...] | None = None
    landmarks: Landmarks = field(default_factory=Landmarks)
    run: RunSource | None = None
    run_with: str = ""
    run_precision: GraphPrecision = "fp32"


class Exporter(Protocol):
    """Reads what follows the colon of ``prefix:rest``."""

    def __call__(self, rest: str, request: ExportRequest) -> SourceNetwork:
        """Gives the network, or an error that says which file is missing and where it would come from."""
        ...
