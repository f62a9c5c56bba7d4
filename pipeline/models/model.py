"""The model: one ONNX file from pixels to labels and probabilities, with metadata."""

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
from penult.exporters.dataclass_json import dataclass_from_json
from penult.pipeline.models.fusion import LARGEST_BYTES, PROBABILITIES, ranked
from penult.pipeline.runtime.providers import choose_provider
from penult.pipeline.runtime.session import GraphRunner

__all__ = ["MODEL_VERSION", "Model", "model_bytes"]

MODEL_VERSION = 1

# Metadata entries of a model's file, each in JSON. The digest covers the graph and all entries of penult.
VERSION_KEY, DIGEST_KEY = "penult.model", "penult.digest"
TEXTS = ("classes", "preprocessing", "provenance", "proof")


class Model:
    """A classifier from one file; `predict` is thread-safe.

    Loading checks that the file is complete; the first prediction creates the ONNX Runtime session.
    """

    def __init__(self, data: bytes, metadata: Mapping[str, Any], *, origin: str, provider: str = "auto") -> None:
        self._data, self._metadata, self._provider, self.origin = data, metadata, provider, origin
        self.classes: tuple[str, ...] = tuple(metadata["classes"])
        self.preprocessing = dataclass_from_json(Preprocessing, metadata["preprocessing"], "preprocessing")
        self._runner: GraphRunner | None = None

    @classmethod
    def load(cls, path: str | Path, *, provider: str = "auto") -> Self:
        """Reads a model's file; raises HeadError for a file that is damaged, too new or not a model."""
        path = Path(path)
        try:
            if path.stat().st_size > LARGEST_BYTES:
                raise HeadError(f"{path} has {path.stat().st_size:,} bytes", expected=f"at most {LARGEST_BYTES:,}")
            data = path.read_bytes()
        except FileNotFoundError:
            raise MissingFileError(
                f"There is no model file {path}",
                expected="the file of a model, or the name of a head in the store",
                remedy="check the spelling; 'penult heads' lists the heads, and 'penult bundle' writes a model",
            ) from None
        except OSError as error:
            raise HeadError(f"{path} cannot be read: {error.strerror}", expected="the file of a model") from error
        return cls.parse(data, origin=str(path), provider=provider)

    @classmethod
    def parse(cls, data: bytes, *, origin: str = "the data", provider: str = "auto") -> Self:
        """Reads a model from the bytes of its file; error messages name ``origin``."""
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError as error:
            raise HeadError(
                f"{origin} is not an ONNX file, or is damaged",
                expected="a model that penult wrote",
                remedy="penult bundle HEAD -o model.onnx",
            ) from error
        found = {str(entry.key): str(entry.value) for entry in model.metadata_props}
        _check_version(found, origin)
        if found.get(DIGEST_KEY) != _digest(model):
            raise HeadError(
                f"{origin} is damaged, or was changed after it was written",
                expected="the unchanged file",
                remedy="copy it again, or bundle the head again",
            )
        try:
            metadata = {name: json.loads(found[f"penult.{name}"]) for name in TEXTS}
            return cls(data, metadata, origin=origin, provider=provider)
        except (KeyError, TypeError, ValueError, RecursionError, BackboneError) as error:
            raise HeadError(f"The metadata of {origin} cannot be read: {error}") from error

    @property
    def provenance(self) -> dict[str, Any]:
        """Backbone, dataset, head, metrics, licence and versions of the model."""
        return dict(self._metadata["provenance"])

    @property
    def min_confidence(self) -> float:
        """The probability below which an image is labelled "unsure"; 0 if none was chosen in training."""
        return float((self._metadata["provenance"].get("head", {}).get("abstention") or {}).get("min_confidence", 0.0))

    @property
    def proof(self) -> dict[str, Any]:
        """The result of the comparison with the head when the model was written."""
        return dict(self._metadata["proof"])

    @property
    def runner(self) -> GraphRunner:
        """The ONNX Runtime session, created on first use."""
        if self._runner is None:
            if self._provider == "openvino":  # it removes the rounding between backbone and head
                raise ProviderError(
                    f"{self.origin} is the file of a model, whose probabilities would differ under openvino",
                    expected="auto, cpu, cuda or tensorrt for the file of a model",
                    remedy="omit --provider, or name the head and its store",
                )
            self._runner = GraphRunner(self._data, [PROBABILITIES], choose_provider(self._provider))
        return self._runner

    def predict(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
        """Returns labels (N) and probabilities (N, C) of images (N, H, W, 3), decoded with `decode`."""
        height, width = self.preprocessing.crop
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (height, width, 3) or not len(pixels):
            raise InputError(
                f"The pixels are {pixels.dtype} {pixels.shape}",
                expected=f"uint8 (N, {height}, {width}, 3), RGB, with at least one image",
            )
        probabilities = self.runner.run(pixels)[PROBABILITIES]
        return np.array(self.classes)[ranked(probabilities)[:, 0]], probabilities

    def __repr__(self) -> str:
        return f"<Model {self.origin}: {', '.join(self.classes[:5])}{' …' if len(self.classes) > 5 else ''}>"


def model_bytes(model: onnx.ModelProto, metadata: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a model's file: the graph with the metadata and a digest of both."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    whole.producer_name = "penult"
    del whole.metadata_props[:]
    written = {VERSION_KEY: str(MODEL_VERSION)} | {f"penult.{name}": json.dumps(metadata[name]) for name in TEXTS}
    onnx.helper.set_model_props(whole, written)
    whole.metadata_props.append(onnx.StringStringEntryProto(key=DIGEST_KEY, value=_digest(whole)))
    return bytes(whole.SerializeToString(deterministic=True))


def _digest(model: onnx.ModelProto) -> str:
    """Returns the SHA-256 of the graph and of the metadata of penult; other tools may add entries."""
    digest = sha256(model.graph.SerializeToString(deterministic=True))
    metadata = {str(entry.key): str(entry.value) for entry in model.metadata_props}  # damaged text is returned as bytes
    for key in sorted(metadata):
        if key.startswith("penult.") and key != DIGEST_KEY:
            digest.update(f"\n{key}={metadata[key]}".encode())
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
            remedy="upgrade penult; ONNX Runtime alone can run the file",
        )
