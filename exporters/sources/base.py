"""What all sources share: the network that a source returns, addresses of weights, and image preparation."""

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
"""Decodes the bytes of an image file to pixels (H, W, 3), as the preprocessing of a card specifies."""
RunSource: TypeAlias = Callable[[Sequence[Path], Sequence[Tap]], Mapping[str, npt.NDArray[Any]]]
"""Runs the source framework on image files, with its own decoding, preprocessing and pooling.

Returns rows (files, width) by tap name, for at least one of the taps; the tap ``logits`` requests the scores. The
``tensor`` of a tap is the name of the value in the source's own model."""
RANDOM = "random"
_ENDINGS = {".bin", ".h5", ".hdf5", ".keras", ".pt", ".pth", ".safetensors"}


@dataclass(frozen=True)
class Provenance:
    """The origin of a network for its card."""

    source: str
    licence: str = "unknown"
    weights: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceNetwork:
    """A pretrained network that a source returns for export.

    ``model`` takes one float image batch, (N, 3, H, W) or (N, H, W, 3), after ``normalisation``; its batch may be
    fixed and its opset old. ``run`` runs the source framework, or is None if that is not installed. ``run_with`` is
    the name of the framework, and ``run_precision`` is fp16 if it computes in half precision.
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
    """A function that reads the network after the colon of ``prefix:rest``."""

    def __call__(self, rest: str, request: ExportRequest) -> SourceNetwork:
        """Returns the network, or raises an error that names the missing file and its origin."""
        ...


@dataclass(frozen=True)
class Address:
    """A network and its weights: by name (None for the default weights), from ``file``, or random."""

    name: str
    weights: str | None = None
    file: Path | None = None
    is_random: bool = False

    @classmethod
    def of(cls, rest: str, request: ExportRequest) -> Self:
        """Parses what follows the prefix of a source; the weights are there or in the request, but not in both.

        >>> Address.of("vgg16@IMAGENET1K_V1", ExportRequest())
        Address(name='vgg16', weights='IMAGENET1K_V1', file=None, is_random=False)
        """
        name, _, given = rest.partition("@")
        weights = given or request.weights
        if given and request.weights not in (None, given):
            raise InputError(
                f"The weights are specified twice: {given!r} and {request.weights!r}", expected="one of the two"
            )
        if weights is None or weights == RANDOM:
            return cls(name, is_random=weights == RANDOM)
        path = Path(weights).expanduser()
        if path.suffix.lower() not in _ENDINGS and not path.is_file():
            return cls(name, weights)
        if not path.is_file():
            raise MissingFileError(f"The weights file {path} does not exist", remedy=f"check the path in {name}@{path}")
        return cls(name, file=path)


def file_facts(path: Path) -> dict[str, Any]:
    """Returns the entry of a weights file for the card."""
    with path.open("rb") as stream:
        return {"file": path.name, "sha256": file_digest(stream, "sha256").hexdigest()}


def check_name(kind: str, name: str, names: list[str]) -> None:
    """Raises UnknownNameError if ``name`` is not one of ``names``; the error suggests similar names."""
    from difflib import get_close_matches

    if name not in names:
        close = get_close_matches(name, names, n=5)
        raise UnknownNameError(
            f"There is no {kind} {name!r}",
            expected=f"one of its {len(names)} names" if len(names) > 40 else f"one of {', '.join(sorted(names))}",
            remedy=f"did you mean {' or '.join(map(repr, close))}?" if close else "",
        )


def prepare_image(path: Path, preprocessing: Preprocessing, normalisation: Normalisation) -> npt.NDArray[Any]:
    """Returns one image as float32 (1, 3, H, W): resized, cropped and normalised.

    It shares no code with the decoder of penult, because the proof of an export compares the two.
    """
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
