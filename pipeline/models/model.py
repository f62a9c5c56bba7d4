"""The model: one ONNX file from pixels to labels and probabilities, and what it says about itself."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from penult.errors import BackboneError, HeadError, InputError, MissingFileError, ProviderError
from penult.exporters.card import Preprocessing
from penult.exporters.plain import from_plain
from penult.pipeline.models.fusion import LARGEST_BYTES, PROBABILITIES, ranked
from penult.pipeline.runtime.providers import choose_provider
from penult.pipeline.runtime.session import GraphRunner

__all__ = ["MODEL_VERSION", "Model", "sealed"]

MODEL_VERSION = 1

# What a model's file says about itself, each text JSON. The digest is over the graph and the other texts.
VERSION_KEY, DIGEST_KEY = "penult.model", "penult.digest"
TEXTS = ("classes", "preprocessing", "provenance", "proof")


class Model:
    """A classifier that needs nothing but its file; `predict` may be called from several threads at once.

    Reading the file checks that it is whole; ONNX Runtime is started by the first prediction.
    """

    def __init__(self, data: bytes, texts: Mapping[str, Any], *, origin: str, provider: str = "auto") -> None:
        self._data, self._texts, self._provider, self.origin = data, texts, provider, origin
        self.classes: tuple[str, ...] = tuple(texts["classes"])
        self.preprocessing = from_plain(Preprocessing, texts["preprocessing"], "preprocessing")
        self._runner: GraphRunner | None = None

    @classmethod
    def load(cls, path: str | Path, *, provider: str = "auto") -> Self:
        """Reads a model's file, and says what is wrong with one that is no model, damaged or too new."""
        path = Path(path)
        try:
            if path.stat().st_size > LARGEST_BYTES:
                raise HeadError(f"{path} is {path.stat().st_size:,} bytes long", expected=f"at most {LARGEST_BYTES:,}")
            data = path.read_bytes()
        except FileNotFoundError:
            raise MissingFileError(
                f"There is no model file {path}",
                expected="a model's file, or the name of a head in the store",
                remedy="look for a typo; 'penult heads' lists the heads, and 'penult bundle' makes a file of one",
            ) from None
        except OSError as error:
            raise HeadError(f"{path} cannot be read: {error.strerror}", expected="a model, one file") from error
        return cls.parse(data, origin=str(path), provider=provider)

    @classmethod
    def parse(cls, data: bytes, *, origin: str = "the data", provider: str = "auto") -> Self:
        """Reads a model from the bytes of its file; ``origin`` names them in errors."""
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError as error:
            raise HeadError(
                f"{origin} is no ONNX file, or is damaged",
                expected="a model that penult wrote",
                remedy="penult bundle HEAD -o model.onnx",
            ) from error
        found = {str(entry.key): str(entry.value) for entry in model.metadata_props}
        _check_version(found, origin)
        if found.get(DIGEST_KEY) != _digest(model):
            raise HeadError(
                f"{origin} is damaged, or was changed after it was made",
                expected="the file as penult wrote it",
                remedy="copy it again, or bundle the head again",
            )
        try:
            texts = {name: json.loads(found[f"penult.{name}"]) for name in TEXTS}
            return cls(data, texts, origin=origin, provider=provider)
        except (KeyError, TypeError, ValueError, RecursionError, BackboneError) as error:
            raise HeadError(f"What {origin} says about itself cannot be read: {error}") from error

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the model comes from: backbone, dataset, head, metrics, licence, versions."""
        return dict(self._texts["provenance"])

    @property
    def min_confidence(self) -> float:
        """The probability below which the best class is no answer; 0 where the head was trained for no accuracy."""
        return float((self._texts["provenance"].get("head", {}).get("abstention") or {}).get("min_confidence", 0.0))

    @property
    def proof(self) -> dict[str, Any]:
        """How closely the model agreed with its head when it was made."""
        return dict(self._texts["proof"])

    @property
    def runner(self) -> GraphRunner:
        """The graph, loaded on the first use."""
        if self._runner is None:
            if self._provider == "openvino":  # it leaves out the roundings between backbone and head
                raise ProviderError(
                    f"{self.origin} is a model's file, and openvino would give other probabilities than were proven",
                    expected="auto, cpu, cuda or tensorrt for a model's file",
                    remedy="leave --provider out, or name the head in its store",
                )
            self._runner = GraphRunner(self._data, [PROBABILITIES], choose_provider(self._provider))
        return self._runner

    def predict(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
        """Returns the labels (N) and the probabilities (N, C) of images (N, H, W, 3) as `decode` gives them."""
        height, width = self.preprocessing.crop
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (height, width, 3) or not len(pixels):
            raise InputError(
                f"The pixels are {pixels.dtype} {pixels.shape}",
                expected=f"uint8 (N, {height}, {width}, 3), RGB, with one image at least",
            )
        probabilities = self.runner.run(pixels)[PROBABILITIES]
        return np.array(self.classes)[ranked(probabilities)[:, 0]], probabilities

    def __repr__(self) -> str:
        return f"<Model {self.origin}: {', '.join(self.classes[:5])}{' …' if len(self.classes) > 5 else ''}>"


def sealed(model: onnx.ModelProto, texts: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a model's file: the graph with the texts in it, and a digest over both."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    whole.producer_name = "penult"
    del whole.metadata_props[:]
    written = {VERSION_KEY: str(MODEL_VERSION)} | {f"penult.{name}": json.dumps(texts[name]) for name in TEXTS}
    onnx.helper.set_model_props(whole, written)
    whole.metadata_props.append(onnx.StringStringEntryProto(key=DIGEST_KEY, value=_digest(whole)))
    return bytes(whole.SerializeToString(deterministic=True))


def _digest(model: onnx.ModelProto) -> str:
    """Returns the SHA-256 of the graph and of what the file says in penult's name; other tools may add theirs."""
    digest = sha256(model.graph.SerializeToString(deterministic=True))
    texts = {str(entry.key): str(entry.value) for entry in model.metadata_props}  # damaged text comes as bytes
    for key in sorted(texts):
        if key.startswith("penult.") and key != DIGEST_KEY:
            digest.update(f"\n{key}={texts[key]}".encode())
    return digest.hexdigest()


def _check_version(found: Mapping[str, str], origin: str) -> None:
    version = found.get(VERSION_KEY)
    if version is None:
        what = "a backbone, which has no classes" if "penult.card" in found else "an ONNX file of something else"
        raise HeadError(
            f"{origin} is {what}", expected="a model that penult wrote", remedy="penult bundle HEAD -o model.onnx"
        )
    if not version.isdigit() or int(version) > MODEL_VERSION:
        raise HeadError(
            f"{origin} is a model of version {version}",
            expected=f"version {MODEL_VERSION} or older",
            remedy="upgrade penult; any ONNX Runtime runs the file without it",
        )
