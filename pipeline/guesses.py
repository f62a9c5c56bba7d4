"""What the pretrained network itself says of images, in its own classes: the state before any training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penult.errors import BackboneError, ImageError
from penult.exporters import Backbone
from penult.pipeline.extraction.decode import decode
from penult.pipeline.extraction.session import Session
from penult.pipeline.sources.rereading import read_again


@dataclass(frozen=True)
class Guess:
    """One of the network's own classes and the probability that it gives it."""

    name: str
    probability: float


def original_guesses(backbone: Backbone, paths: Sequence[str], *, top: int = 5) -> list[list[Guess]]:
    """Returns for each image the ``top`` classes of the network's own classifier; none for an unreadable image."""
    if not backbone.card.classes:
        raise BackboneError(f"The backbone {backbone.name!r} has no classifier of its own", expected="one with logits")
    session = Session(backbone, ["logits"])
    return [_guess(session, backbone, path, top) for path in paths]


def _guess(session: Session, backbone: Backbone, path: str, top: int) -> list[Guess]:
    try:
        pixels = decode(read_again(path), backbone.card.preprocessing)
    except (ImageError, OSError):
        return []
    logits = session.run(pixels[np.newaxis])["logits"][0].astype(np.float64)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    names = backbone.card.classes or ()
    best = np.argsort(-probabilities)[:top]
    return [Guess(names[position], float(probabilities[position])) for position in best]
