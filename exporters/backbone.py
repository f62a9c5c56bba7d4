"""A backbone: one ONNX file that turns uint8 pixels into named feature vectors, with its card inside."""

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


_LARGEST_FILE = (2 << 30) - 1  # the limit of protobuf
_VERSION = "1"


class Backbone:
    """A validated graph and its card; immutable.

    Input: ``pixels``, uint8 (N, H, W, 3) RGB. Outputs: each tap under its name, float32 (N, width), and ``logits``
    if the network has a known classifier.
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
        """Returns the same backbone with these results of its proof on the card; features do not change."""
        proven = copy(self)
        proven.card = replace(self.card, proof=proof)
        proven._model = onnx.ModelProto()
        proven._model.CopyFrom(self._model)
        proven._write_card()
        return proven

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a backbone file; raises BackboneError if its graph does not match its fingerprint."""
        path = Path(path)
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise BackboneError(f"{path} is {path.stat().st_size} bytes long", expected=f"at most {_LARGEST_FILE}")
            data = path.read_bytes()
        except FileNotFoundError:
            raise MissingFileError(
                f"The backbone file {path} does not exist",
                expected="the ONNX file of a backbone, or the name of a built-in one",
                remedy="check the spelling; 'penult backbones' lists the names, and 'penult export' creates a file",
            ) from None
        except OSError as reason:
            raise BackboneError(f"{path} cannot be read: {reason}", expected="a readable backbone file") from reason
        return cls.parse(data, origin=str(path))

    @classmethod
    def parse(cls, data: bytes, *, origin: str = "the data") -> Self:
        """Reads a backbone from the bytes of its file; ``origin`` names them in errors."""
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError as reason:
            raise BackboneError(
                f"{origin} is not an ONNX file, or is damaged", expected="an ONNX file with a card inside"
            ) from reason
        texts = {entry.key: entry.value for entry in model.metadata_props}
        if "penult.card" not in texts:
            raise BackboneError(
                f"{origin} contains no card, so it is not a backbone",
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
                f"{origin} was changed after its export: its fingerprint is {backbone.fingerprint[:16]}…",
                expected=f"{texts.get('penult.fingerprint', 'none')[:16]}…",
                remedy="copy or download the file again, or export the backbone again",
            )
        return backbone

    def save(self, path: str | Path) -> None:
        """Writes the file atomically and durably: a reader sees the old file or the whole new one."""
        replace_file(Path(path), self.to_bytes())

    @property
    def name(self) -> str:
        """The name on the card."""
        return self.card.name

    @property
    def input_size(self) -> tuple[int, int]:
        """The (height, width) of the input images."""
        return self.card.preprocessing.crop

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of all outputs: every tap, and ``logits`` if the classifier is known."""
        return tuple(output.name for output in self._model.graph.output)

    def tap(self, name: str) -> Tap:
        """Returns the tap with this name."""
        for tap in self.card.taps:
            if tap.name == name:
                return tap
        raise UnknownNameError.among(f"tap of {self.name}", name, [tap.name for tap in self.card.taps])

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        """Returns a graph with only these outputs, in this order, and the nodes that they need.

        Its features are those of this backbone, whose fingerprint is in the metadata of the graph.
        """
        for name in outputs:
            if name not in self.outputs:
                raise UnknownNameError.among(f"output of {self.name}", name, self.outputs)
        if not outputs or len(set(outputs)) != len(outputs):
            raise BackboneError(f"The requested outputs are {list(outputs)}", expected="one or more names, each once")
        cut = prune(self._model, outputs)
        onnx.helper.set_model_props(cut, {"penult.backbone": self.name, "penult.view_of": self.fingerprint})
        return cut

    def serialized(self, outputs: Sequence[str]) -> bytes:
        """Returns ``model(outputs)`` as bytes for ONNX Runtime."""
        return bytes(self.model(outputs).SerializeToString(deterministic=True))

    def to_bytes(self) -> bytes:
        """Returns the bytes that ``save`` writes."""
        return bytes(self._model.SerializeToString(deterministic=True))

    def reference_batch(self) -> npt.NDArray[np.uint8]:
        """Returns the images whose reference vectors are on the card."""
        return reference_batch(*self.input_size)

    def check_reference(
        self, outputs: Mapping[str, npt.NDArray[np.floating[Any]]], *, tolerance: Tolerance | None = None
    ) -> dict[str, tuple[float, float]]:
        """Returns the worst (cosine, relative error) of each output of the reference batch against the card.

        ``tolerance`` is the card's precision by default; pass ``tf32`` or ``fp16`` for sessions with that precision.
        """
        return compare(self.card.reference, outputs, tolerance or self.card.precision)

    def __repr__(self) -> str:
        height, width = self.input_size
        return f"<Backbone {self.name} {self.fingerprint[:16]} {height}x{width}, {len(self.card.taps)} taps>"


SUFFIX = "-bf16"


def in_bfloat16(backbone: Backbone) -> Backbone:
    """Returns the same network under its own name and fingerprint, to be run in bfloat16 only.

    The graph and its weights do not change; the provider that runs it rounds them.

    Raises:
        BackboneError: the weights are not float32.
    """
    card = backbone.card
    if card.precision != "fp32":
        raise BackboneError(
            f"The precision of the backbone {card.name!r} is {card.precision}",
            expected="fp32",
            remedy="use the backbone from which it was made",
        )
    return Backbone(
        onnx.load_from_string(backbone.to_bytes()), replace(card, name=card.name + SUFFIX, precision="bf16")
    )
