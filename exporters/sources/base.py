"""What all sources share: the network that a source returns, addresses of weights, and plain image preparation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from penult.errors import InputError, MissingFileError, UnknownNameError
from penult.exporters.card import GraphPrecision, Normalisation, Preprocessing, Tap
from penult.exporters.graph.taps import KnownTensors
from penult.exporters.requests import ExportRequest

__all__ = [
    "RANDOM",
    "Address",
    "DecodeImage",
    "Exporter",
    "Provenance",
    "RunSource",
    "SourceNetwork",
    "check_name",
    "file_facts",
    "prepare_image",
]

DecodeImage: TypeAlias = Callable[[bytes, Preprocessing], npt.NDArray[np.uint8]]
"""Makes the pixels (H, W, 3) of an image file's bytes, exactly as a card's preprocessing says."""
RunSource: TypeAlias = Callable[[Sequence[Path], Sequence[Tap]], Mapping[str, npt.NDArray[Any]]]
"""Runs the source framework on image files, with its own decoding, preprocessing and pooling.

Gives rows (files, width) by the names of those taps that it can compute, one at least; the scores are asked for as a
tap called ``logits``. Each tap's ``tensor`` is the value's name in the source's own model."""
RANDOM = "random"
_ENDINGS = {".bin", ".h5", ".hdf5", ".keras", ".pt", ".pth", ".safetensors"}


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
    landmarks: KnownTensors = field(default_factory=KnownTensors)
    run: RunSource | None = None
    run_with: str = ""
    run_precision: GraphPrecision = "fp32"


class Exporter(Protocol):
    """Reads what follows the colon of ``prefix:rest``."""

    def __call__(self, rest: str, request: ExportRequest) -> SourceNetwork:
        """Gives the network, or an error that says which file is missing and where it would come from."""
        ...


@dataclass(frozen=True)
class Address:
    """``weights`` is the name of weights, or None for the source's own; or they are in ``file``, or random."""

    name: str
    weights: str | None = None
    file: Path | None = None
    is_random: bool = False

    @classmethod
    def of(cls, rest: str, request: ExportRequest) -> Self:
        """Reads what follows the prefix of a source; weights may be said there or in the request, and only once.

        >>> Address.of("vgg16@IMAGENET1K_V1", ExportRequest())
        Address(name='vgg16', weights='IMAGENET1K_V1', file=None, is_random=False)
        """
        name, _, said = rest.partition("@")
        weights = said or request.weights
        if said and request.weights not in (None, said):
            raise InputError(f"The weights are said twice: {said!r} and {request.weights!r}", expected="one of the two")
        if weights is None or weights == RANDOM:
            return cls(name, is_random=weights == RANDOM)
        path = Path(weights).expanduser()
        if path.suffix.lower() not in _ENDINGS and not path.is_file():
            return cls(name, weights)
        if not path.is_file():
            raise MissingFileError(f"There is no weights file {path}", remedy=f"NAME@FILE, such as {name}@weights.pth")
        return cls(name, file=path)


def file_facts(path: Path) -> dict[str, Any]:
    """Gives what a card says of a weights file."""
    with path.open("rb") as stream:
        return {"file": path.name, "sha256": file_digest(stream, "sha256").hexdigest()}


def check_name(kind: str, name: str, names: list[str]) -> None:
    """Raises where ``name`` is none of ``names``, of which there may be hundreds: only close ones are said."""
    from difflib import get_close_matches

    if name not in names:
        close = get_close_matches(name, names, n=5)
        raise UnknownNameError(
            f"No {kind} is called {name!r}",
            expected=f"one of its {len(names)} names" if len(names) > 40 else f"one of {', '.join(sorted(names))}",
            remedy=f"did you mean {' or '.join(map(repr, close))}?" if close else "",
        )


def prepare_image(path: Path, preprocessing: Preprocessing, normalisation: Normalisation) -> npt.NDArray[Any]:
    """Gives one image as float32 (1, 3, H, W): resized, cropped, normalised."""
    from PIL import Image

    with Image.open(path) as image:
        rgb = image.convert("RGB")
    width, height = rgb.size
    if isinstance(preprocessing.resize, int):
        side = preprocessing.resize
        sides = (side, side * height // width) if width < height else (side * width // height, side)
    else:
        sides = (preprocessing.resize[1], preprocessing.resize[0])
    small = np.asarray(rgb.resize(sides, Image.Resampling[preprocessing.interpolation.upper()]), dtype=np.float64)
    high, wide = preprocessing.crop
    top, left = round((small.shape[0] - high) / 2), round((small.shape[1] - wide) / 2)
    cut = small[top : top + high, left : left + wide]
    channels = cut[:, :, ::-1] if normalisation.channels == "bgr" else cut
    normal = (channels - np.array(normalisation.mean)) / np.array(normalisation.std)
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], dtype=np.float32)
