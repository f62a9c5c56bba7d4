"""What answers a batch of pixels: a bundled model, or a head behind its backbone."""

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

__all__ = ["Classifier", "HeadClassifier", "ModelClassifier", "classifier_for"]


class Classifier(Protocol):
    """Gives probabilities (N, C) for pixels (N, H, W, 3); safe to call from several threads."""

    name: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    runner: GraphRunner
    min_confidence: float
    about: dict[str, str]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns a row per image; one that is not finite tells that the image cannot be classified."""


class ModelClassifier:
    """Asks a bundled model."""

    def __init__(self, model: Model) -> None:
        origin, head = model.provenance["backbone"], model.provenance["head"]
        self.name, self.classes, self.preprocessing = head["name"], model.classes, model.preprocessing
        self.runner, self.min_confidence = model.runner, model.min_confidence
        self.about = _about(head["name"], head["kind"], origin["name"], origin["fingerprint"])

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns what the model's file gives."""
        return self.runner.run(pixels)[PROBABILITIES]


class HeadClassifier:
    """Asks a head about the features that its backbone gives; for heads that no file can be made of, too."""

    def __init__(self, head: Head, store: Store, provider: str = "auto") -> None:
        head.require_classes("a server's answer")
        backbone, card = backbone_of(store, head), head.card
        self.name, self.classes = card.name, tuple(map(str, card.classes))
        self.preprocessing, self.min_confidence = backbone.card.preprocessing, card.min_confidence
        self.runner: GraphRunner = Session(backbone, taps_of(card.spaces, backbone), provider=provider)
        self.about = _about(card.name, card.kind, backbone.name, backbone.fingerprint)
        self._head = head

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns what the head gives; a row of nan where the features are not finite in the precision of the space."""
        features = features_of(self.runner.run(pixels), self._head.card.spaces)
        is_sound = np.isfinite(features).all(axis=1)
        rows = np.full((len(pixels), len(self.classes)), np.nan)
        if is_sound.any():
            rows[is_sound] = probabilities_of(self._head, features[is_sound])
        return rows


def classifier_for(
    model: str | Path | Model | Head, store: str | Path | Store | None = None, *, provider: str = "auto"
) -> Classifier:
    """Returns what answers for a model's file or a head of a store, loaded and ready."""
    found = model_or_head(model, store, provider=provider)
    return ModelClassifier(found) if isinstance(found, Model) else HeadClassifier(*found, provider)


def _about(head: str, kind: str, backbone: str, fingerprint: str) -> dict[str, str]:
    return {"head": head, "kind": kind, "backbone": backbone, "fingerprint": fingerprint}
