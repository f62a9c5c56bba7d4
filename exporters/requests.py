"""What a user asks of an export: taps, and hints on how a file expects its pixels."""

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
    """What is known of a file from outside; None is not known. ``mean`` and ``std`` are in units of 0 to 255.

    ``family`` is how a framework's networks are used to pixels: ``torch`` (ImageNet mean and std), ``caffe`` (BGR minus
    104, 117, 123), ``tf`` (-1 to 1), ``unit`` (0 to 1), ``raw`` (0 to 255). ``classes`` may be the word ``imagenet``.
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
        """Gives these hints, completed with those of ``other``.

        >>> Hints(resize=256).over(Hints(resize=232, family="torch"))
        Hints(family='torch', resize=256)
        """
        mine = {item.name: getattr(self, item.name) for item in fields(self)}
        lacking = {name: getattr(other, name) for name, value in mine.items() if value is None}
        return replace(self, **lacking)

    def __repr__(self) -> str:
        known = ((item.name, getattr(self, item.name)) for item in fields(self))
        return f"Hints({', '.join(f'{name}={value!r}' for name, value in known if value is not None)})"

    def normalisation(self) -> Normalisation | None:
        """Gives the normalisation, or None where neither a family nor the mean and std are known."""
        if self.family is None and (self.mean is None or self.std is None):
            if (self.mean, self.std, self.channels) != (None, None, None):
                raise InputError(
                    f"Of how pixels are taken, only a part is said: {self!r}",
                    expected="a family, or both the mean and the std",
                    remedy="add --family, or --mean and --std",
                )
            return None
        base = FAMILIES[self.family or "raw"]
        return Normalisation(self.channels or base.channels, self.mean or base.mean, self.std or base.std)

    def check_no_tensors(self, source: str) -> None:
        """Raises where a tensor is named for a source that knows its own penultimate layer and scores."""
        if self.penultimate is not None or self.logits is not None:
            raise InputError(
                f"The penultimate tensor is said to be {self.penultimate!r} and the logits {self.logits!r}",
                expected=f"neither: {source} knows which they are",
                remedy="--taps NAME gives any other value as a tap",
            )

    def preprocessing(self, size: tuple[int, int]) -> Preprocessing:
        """Gives the preprocessing for an input of this size; the shorter side is 256/224 of the crop by default."""
        resize = self.resize if self.resize is not None else round(min(size) * 256 / 224)
        return Preprocessing(resize, size, self.interpolation or "bicubic", Decoding())

    def class_names(self) -> tuple[str, ...] | None:
        """Gives the names of the classes, where they are known."""
        return imagenet_classes() if self.classes == "imagenet" else self.classes


def read_sidecar(path: Path) -> Hints:
    """Reads the hints in a JSON file, whose fields are those of ``Hints`` or those of a backbone's card."""
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
    """Takes from a card what holds for another file of the same network."""
    kept = {name: card[name] for name in ("name", "source", "licence", "classes") if card.get(name) is not None}
    normalisation = card.get("normalisation")
    of_pixels = {
        name: card["preprocessing"][name]
        for name in ("resize", "crop", "interpolation")
        if name in card["preprocessing"]
    }
    return {**kept, **of_pixels, **(normalisation if isinstance(normalisation, dict) else {})}


@dataclass(frozen=True)
class TapRequest:
    """``tensor`` is a tap that is found in the network, or any value of its graph."""

    tensor: str
    name: str | None = None
    pooling: Pooling | None = None


def parse_taps(text: str) -> tuple[TapRequest, ...]:
    """Reads a list with commas.

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
                expected="names with commas between, each TENSOR, NAME=TENSOR or NAME=TENSOR:max",
            )
        requests.append(TapRequest(tensor, name or None, cast("Pooling", tail) if pooled else None))
    return tuple(requests)


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
