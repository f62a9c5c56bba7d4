"""The backbone: one ONNX file from uint8 pixels to named feature vectors, with its card inside."""

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError

from penult.errors import BackboneError, MissingFileError, UnknownNameError
from penult.exporters.card import Card, Tap
from penult.exporters.dataclass_json import dataclass_from_json
from penult.exporters.fingerprint import fingerprint_of
from penult.exporters.graph.graph_writer import prune
from penult.exporters.reference import Tolerance, compare, reference_batch
from penult.exporters.validation import check_model
from penult.files import replace_file

__all__ = ["Backbone", "in_bfloat16"]


_LARGEST_FILE = (2 << 30) - 1  # protobuf's own bound
_VERSION = "1"


class Backbone:
    """A checked graph and its card; nothing of it is changed after it is made.

    Input: ``pixels``, uint8 (N, H, W, 3) RGB. Outputs: each tap under its name, float32 (N, width), and ``logits``
    where the classifier is known.
    """

    def __init__(self, model: onnx.ModelProto, card: Card) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self.card = card
        check_model(self._model, card)
        self.fingerprint = fingerprint_of(self._model, card)
        self._write_card()

    def _write_card(self) -> None:
        del self._model.metadata_props[:]
        texts = {
            "penult.version": _VERSION,
            "penult.card": json.dumps(self.card.to_json()),
            "penult.fingerprint": self.fingerprint,
        }
        onnx.helper.set_model_props(self._model, texts)

    def with_proof(self, proof: Mapping[str, Any]) -> Self:
        """Gives the same backbone with these figures on its card, which change no feature."""
        proven = copy(self)
        proven.card = replace(self.card, proof=proof)
        proven._model = onnx.ModelProto()
        proven._model.CopyFrom(self._model)
        proven._write_card()
        return proven

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a backbone file, and refuses one whose graph is not the one that its card was made for."""
        path = Path(path)
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise BackboneError(f"{path} is {path.stat().st_size} bytes long", expected=f"at most {_LARGEST_FILE}")
            data = path.read_bytes()
        except FileNotFoundError:
            raise MissingFileError(
                f"There is no backbone file {path}",
                expected="the ONNX file of a backbone, or the name of a built-in one",
                remedy="look for a typo; 'penult backbones' lists the names, and 'penult export' makes a file",
            ) from None
        except OSError as reason:
            raise BackboneError(
                f"{path} cannot be read: {reason}", expected="a backbone, which is one file"
            ) from reason
        return cls.parse(data, origin=str(path))

    @classmethod
    def parse(cls, data: bytes, *, origin: str = "the data") -> Self:
        """Reads a backbone from the bytes of its file; ``origin`` names them in errors."""
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError as reason:
            raise BackboneError(
                f"{origin} is no ONNX file, or is damaged", expected="an ONNX file with a card inside"
            ) from reason
        texts = {entry.key: entry.value for entry in model.metadata_props}
        if "penult.card" not in texts:
            raise BackboneError(
                f"{origin} holds no card, so it is no backbone",
                expected="a file that penult wrote",
                remedy=f"penult export onnx:{origin}",
            )
        if texts.get("penult.version") != _VERSION:
            raise BackboneError(
                f"{origin} is a backbone of version {texts.get('penult.version')}", expected=f"version {_VERSION}"
            )
        return cls._checked(model, texts, origin)

    @classmethod
    def _checked(cls, model: onnx.ModelProto, texts: Mapping[str, str], origin: str) -> Self:
        try:
            card = dataclass_from_json(Card, json.loads(texts["penult.card"]), "card")
        except (ValueError, RecursionError) as reason:
            raise BackboneError(f"The card in {origin} cannot be read: {reason}") from reason
        backbone = cls(model, card)
        if backbone.fingerprint != texts.get("penult.fingerprint"):
            raise BackboneError(
                f"{origin} was changed after it was made: its fingerprint is {backbone.fingerprint[:16]}…",
                expected=f"{texts.get('penult.fingerprint', 'none')[:16]}…",
                remedy="get the file again, or export the backbone again",
            )
        return backbone

    def save(self, path: str | Path) -> None:
        """Writes the file atomically and durably: a reader sees the old file or the whole new one."""
        replace_file(Path(path), self.to_bytes())

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name

    @property
    def input_size(self) -> tuple[int, int]:
        """The (height, width) of the images that the graph takes."""
        return self.card.preprocessing.crop

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names that ``model`` takes: every tap, and ``logits`` where the classifier is known."""
        return tuple(output.name for output in self._model.graph.output)

    def tap(self, name: str) -> Tap:
        """Gives the tap of this name."""
        for tap in self.card.taps:
            if tap.name == name:
                return tap
        raise UnknownNameError.among(f"tap of {self.name}", name, [tap.name for tap in self.card.taps])

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        """Gives a graph with only these outputs, in this order, and only the work that they need.

        It is a view of this backbone: its features are those of this fingerprint, which it carries in its metadata.
        """
        for name in outputs:
            if name not in self.outputs:
                raise UnknownNameError.among(f"output of {self.name}", name, self.outputs)
        if not outputs or len(set(outputs)) != len(outputs):
            raise BackboneError(f"The outputs asked are {list(outputs)}", expected="one or more, each once")
        cut = prune(self._model, outputs)
        onnx.helper.set_model_props(cut, {"penult.backbone": self.name, "penult.view_of": self.fingerprint})
        return cut

    def serialized(self, outputs: Sequence[str]) -> bytes:
        """Gives ``model(outputs)`` as bytes, which ONNX Runtime takes as they are."""
        return bytes(self.model(outputs).SerializeToString(deterministic=True))

    def to_bytes(self) -> bytes:
        """Gives the bytes of the whole file, as ``save`` writes them."""
        return bytes(self._model.SerializeToString(deterministic=True))

    def reference_batch(self) -> npt.NDArray[np.uint8]:
        """Draws the images whose vectors stand on the card."""
        return reference_batch(*self.input_size)

    def check_reference(
        self, outputs: Mapping[str, npt.NDArray[np.floating[Any]]], *, tolerance: Tolerance | None = None
    ) -> dict[str, tuple[float, float]]:
        """Compares what a session gives for the reference batch with the card, and refuses other vectors.

        Gives the worst (cosine, relative error) of each output. ``tolerance`` is the card's precision by default; a
        session that computes in TF32 or half precision asks for ``tf32`` or ``fp16``.
        """
        return compare(self.card.reference, outputs, tolerance or self.card.precision)

    def __repr__(self) -> str:
        height, width = self.input_size
        return f"<Backbone {self.name} {self.fingerprint[:16]} {height}x{width}, {len(self.card.taps)} taps>"


SUFFIX = "-bf16"


def in_bfloat16(backbone: Backbone) -> Backbone:
    """Returns the same network under a name and a fingerprint of its own, to be computed in bfloat16 and never else.

    The graph and its weights stay as they are; whoever runs it rounds them on the way.

    Raises:
        BackboneError: its numbers are not float32.
    """
    card = backbone.card
    if card.precision != "fp32":
        raise BackboneError(
            f"The backbone {card.name!r} is one of {card.precision}",
            expected="one of float32",
            remedy="take the one that it was made of",
        )
    return Backbone(
        onnx.load_from_string(backbone.to_bytes()), replace(card, name=card.name + SUFFIX, precision="bf16")
    )
