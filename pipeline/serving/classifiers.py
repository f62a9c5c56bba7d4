"""Classifiers of decoded images: a bundled model, or a head and its backbone."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penult.exporters.card import Preprocessing
from penult.pipeline.heads.head import Head, features_of, probabilities_of
from penult.pipeline.heads.saved_heads import backbone_of
from penult.pipeline.models.fusion import PROBABILITIES, taps_of
from penult.pipeline.models.model import Model
from penult.pipeline.models.predictors import model_or_head
from penult.pipeline.runtime.session import GraphRunner, Session
from penult.store import Store

__all__ = ["HeadClassifier", "ModelClassifier", "PixelClassifier", "classifier_for"]


class PixelClassifier(Protocol):
    """Returns probabilities (N, C) for pixels (N, H, W, 3); thread-safe."""

    name: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    runner: GraphRunner
    min_confidence: float
    about: dict[str, str]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns a row per image; the row is not finite if the image cannot be classified."""


class ModelClassifier:
    """Classifies with a bundled model."""

    def __init__(self, model: Model) -> None:
        origin, head = model.provenance["backbone"], model.provenance["head"]
        self.name, self.classes, self.preprocessing = head["name"], model.classes, model.preprocessing
        self.runner, self.min_confidence = model.runner, model.min_confidence
        self.about = _about(head["name"], head["kind"], origin["name"], origin["fingerprint"])

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns the probabilities of the model."""
        return self.runner.run(pixels)[PROBABILITIES]


class HeadClassifier:
    """Classifies with a head and its backbone; also for heads that cannot be bundled."""

    def __init__(self, head: Head, store: Store, provider: str = "auto") -> None:
        head.require_classes("the server")
        backbone, card = backbone_of(store, head), head.card
        self.name, self.classes = card.name, tuple(map(str, card.classes))
        self.preprocessing, self.min_confidence = backbone.card.preprocessing, card.min_confidence
        self.runner: GraphRunner = Session(backbone, taps_of(card.spaces, backbone), provider=provider)
        self.about = _about(card.name, card.kind, backbone.name, backbone.fingerprint)
        self._head = head

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns the head's probabilities; NaN if the features are not finite in the precision of the space."""
        features = features_of(self.runner.run(pixels), self._head.card.spaces)
        is_sound = np.isfinite(features).all(axis=1)
        rows = np.full((len(pixels), len(self.classes)), np.nan)
        if is_sound.any():
            rows[is_sound] = probabilities_of(self._head, features[is_sound])
        return rows


def classifier_for(
    model: str | Path | Model | Head, store: str | Path | Store | None = None, *, provider: str = "auto"
) -> PixelClassifier:
    """Returns the classifier for the file of a model or a head of a store."""
    found = model_or_head(model, store, provider=provider)
    return ModelClassifier(found) if isinstance(found, Model) else HeadClassifier(*found, provider)


def _about(head: str, kind: str, backbone: str, fingerprint: str) -> dict[str, str]:
    return {"head": head, "kind": kind, "backbone": backbone, "fingerprint": fingerprint}
