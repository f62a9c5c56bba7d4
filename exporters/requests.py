"""What a user requests from an export: taps, and hints about a file's preprocessing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

from penult.errors import InputError, PenultError
from penult.exporters.card import Decoding, GraphPrecision, Interpolation, Normalisation, Pooling, Preprocessing
from penult.exporters.classes import imagenet_classes
from penult.exporters.dataclass_json import dataclass_from_json

__all__ = ["FAMILIES", "ExportRequest", "Family", "Hints", "TapRequest", "parse_taps", "read_sidecar"]

Family = Literal["torch", "caffe", "tf", "unit", "raw"]
FAMILIES: Mapping[str, Normalisation] = {
    "torch": Normalisation("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "caffe": Normalisation("bgr", (104.0, 117.0, 123.0), (1.0, 1.0, 1.0)),
    "tf": Normalisation("rgb", (127.5,) * 3, (127.5,) * 3),
    "unit": Normalisation("rgb", (0.0,) * 3, (255.0,) * 3),
    "raw": Normalisation("rgb", (0.0,) * 3, (1.0,) * 3),
}


@dataclass(frozen=True)
class Hints:
    """Facts about a network that its file does not contain; None is unknown. ``mean`` and ``std`` are for 0 to 255.

    ``family`` is a common normalisation: ``torch`` (ImageNet mean and std), ``caffe`` (BGR minus 104, 117, 123),
    ``tf`` (-1 to 1), ``unit`` (0 to 1), ``raw`` (0 to 255). ``classes`` may be the word ``imagenet``.
    """

    family: Family | None = None
    channels: Literal["rgb", "bgr"] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resize: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    interpolation: Interpolation | None = None
    classes: tuple[str, ...] | Literal["imagenet"] | None = None
    penultimate: str | None = None
    logits: str | None = None
    name: str | None = None
    licence: str | None = None
    source: str | None = None

    def over(self, other: "Hints") -> Self:
        """Returns these hints, with unknown ones taken from ``other``.

        >>> Hints(resize=256).over(Hints(resize=232, family="torch"))
        Hints(family='torch', resize=256)
        """
        mine = {item.name: getattr(self, item.name) for item in fields(self)}
        missing = {name: getattr(other, name) for name, value in mine.items() if value is None}
        return replace(self, **missing)

    def __repr__(self) -> str:
        known = ((item.name, getattr(self, item.name)) for item in fields(self))
        return f"Hints({', '.join(f'{name}={value!r}' for name, value in known if value is not None)})"

    def normalisation(self) -> Normalisation | None:
        """Returns the normalisation, or None if neither a family nor the mean and std are known."""
        if self.family is None and (self.mean is None or self.std is None):
            if (self.mean, self.std, self.channels) != (None, None, None):
                raise InputError(
                    f"The normalisation is incomplete: {self!r}",
                    expected="a family, or both the mean and the std",
                    remedy="pass --family, or --mean and --std",
                )
            return None
        base = FAMILIES[self.family or "raw"]
        return Normalisation(self.channels or base.channels, self.mean or base.mean, self.std or base.std)

    def check_no_tensors(self, source: str) -> None:
        """Raises InputError if a tensor is named for a source that knows its penultimate layer and logits."""
        if self.penultimate is not None or self.logits is not None:
            raise InputError(
                f"The penultimate tensor is {self.penultimate!r} and the logits are {self.logits!r}",
                expected=f"neither, because {source} knows them",
                remedy="use --taps NAME for any other value",
            )

    def preprocessing(self, size: tuple[int, int]) -> Preprocessing:
        """Returns the preprocessing for this input size; by default the shorter side is 256/224 of the crop."""
        resize = self.resize if self.resize is not None else round(min(size) * 256 / 224)
        return Preprocessing(resize, size, self.interpolation or "bicubic", Decoding())

    def class_names(self) -> tuple[str, ...] | None:
        """Returns the class names, if known."""
        return imagenet_classes() if self.classes == "imagenet" else self.classes


def read_sidecar(path: Path) -> Hints:
    """Reads hints from a JSON file with the fields of ``Hints`` or of a backbone's card."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and isinstance(data.get("preprocessing"), dict):
            data = _from_card(data)
        return dataclass_from_json(Hints, data, path.name)
    except PenultError:
        raise
    except (ValueError, RecursionError) as reason:
        raise InputError(f"The sidecar {path} cannot be read: {reason}", expected="a JSON object") from reason


def _from_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the hints on a card that are valid for another file of the same network."""
    kept = {name: card[name] for name in ("name", "source", "licence", "classes") if card.get(name) is not None}
    normalisation = card.get("normalisation")
    preprocessing = {
        name: card["preprocessing"][name]
        for name in ("resize", "crop", "interpolation")
        if name in card["preprocessing"]
    }
    return {**kept, **preprocessing, **(normalisation if isinstance(normalisation, dict) else {})}


@dataclass(frozen=True)
class TapRequest:
    """A requested tap; ``tensor`` is a tap of the network or any value of its graph."""

    tensor: str
    name: str | None = None
    pooling: Pooling | None = None


def parse_taps(text: str) -> tuple[TapRequest, ...]:
    """Parses taps such as ``stage3``, ``stage3:max``, ``TENSOR`` or ``NAME=TENSOR:gem``, separated by commas.

    >>> parse_taps("penultimate,last=layer4/out:0:gem")[1]
    TapRequest(tensor='layer4/out:0', name='last', pooling='gem')
    """
    requests = []
    for part in text.split(","):
        head, _, tail = part.strip().rpartition(":")
        pooled = bool(head) and tail in get_args(Pooling)
        name, equals, tensor = (head if pooled else part.strip()).partition("=")
        if not equals:
            name, tensor = "", name
        if not tensor:
            raise InputError(
                f"The taps are {text!r}",
                expected="TENSOR, NAME=TENSOR or NAME=TENSOR:max, separated by commas",
            )
        requests.append(TapRequest(tensor, name or None, cast("Pooling", tail) if pooled else None))
    return tuple(requests)


@dataclass(frozen=True)
class ExportRequest:
    """The options of an export.

    ``taps`` None selects all taps; ``size`` replaces the network's own input side; ``weights`` is ``random``, a local
    file, or None for the source's own weights.
    """

    taps: tuple[TapRequest, ...] | None = None
    precision: GraphPrecision = "fp32"
    size: int | None = None
    weights: str | None = None
    hints: Hints = field(default_factory=Hints)
