"""Shows that a model says what its head says, on real and on random pixels, before the model is written."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import BundleMismatchError, ImageError
from penult.exporters.backbone import Backbone
from penult.pipeline.heads.head import Head, features_of, probabilities_of
from penult.pipeline.images.decode import decode
from penult.pipeline.images.reading import read_again
from penult.pipeline.models.fusion import LABEL, PROBABILITIES, taps_of
from penult.pipeline.runtime.providers import ProviderChoice
from penult.pipeline.runtime.session import GraphRunner, Session

__all__ = ["TOLERANCE", "Evidence", "Proof"]

# By how much a probability of the model may differ from the head's.
TOLERANCE = 1e-5

RANDOM_IMAGES = 8
SEED = 20_231
LOAD_IMAGES = 64


@dataclass(frozen=True)
class Proof:
    """What was compared, and how closely it agreed; no label differed."""

    real_images: int
    unreadable_images: int
    random_images: int
    largest_difference: float
    tolerance: float
    precision: str
    onnxruntime: str

    def to_json(self) -> dict[str, Any]:
        """Returns the proof as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class _Load:
    names: list[str]
    pixels: NDArray[np.uint8]
    probabilities: NDArray[np.float64]


def _float32_session(backbone: Backbone, taps: Sequence[str]) -> GraphRunner:
    """Returns a session that computes as the file will: in float32, also for a backbone that asks for bfloat16."""
    if backbone.card.precision == "bf16":
        return GraphRunner(backbone.serialized(taps), taps, ProviderChoice("cpu"))
    return Session(backbone, taps, provider="cpu")


class Evidence:
    """The images to compare on, and what the head says of each; images that cannot be read are counted."""

    def __init__(self, head: Head, backbone: Backbone, check_images: Sequence[str | Path]) -> None:
        self._head, self._backbone = head, backbone
        self._session = _float32_session(backbone, taps_of(head.card.spaces, backbone))
        self.unreadable_images = 0
        self._loads = [self._load(names, pixels) for names, pixels in self._pixels(check_images)]

    def prove(self, graph: bytes, precision: str) -> Proof:
        """Compares the model ``graph`` with the head.

        Raises:
            BundleMismatchError: a label differs, or a probability by more than the tolerance.
        """
        import onnxruntime

        runner = GraphRunner(graph, [LABEL, PROBABILITIES], ProviderChoice("cpu"))
        differences = [self._compare(runner, load) for load in self._loads]
        real = sum(len(load.names) for load in self._loads) - RANDOM_IMAGES
        return Proof(
            real, self.unreadable_images, RANDOM_IMAGES, max(differences), TOLERANCE, precision, onnxruntime.__version__
        )

    def _compare(self, runner: GraphRunner, load: _Load) -> float:
        given = runner.run(load.pixels)
        differences = np.abs(given[PROBABILITIES] - load.probabilities).max(axis=1)
        classes = self._head.card.classes
        expected = [str(classes[place]) for place in load.probabilities.argmax(axis=1)]
        wrong = (np.array(expected) != given[LABEL].astype(np.str_)) | ~(differences <= TOLERANCE)
        if wrong.any():
            place = int(np.argmax(wrong))
            raise BundleMismatchError(
                f"Of {load.names[place]} the bundled model says {given[LABEL][place]!r} and the head "
                f"{expected[place]!r}, and a probability differs by {differences[place]:.2g}",
                expected=f"the same label, and probabilities within {TOLERANCE:g}",
                remedy="nothing was written; bundle another kind of head, or predict with the head and its store",
            )
        return float(differences.max())

    def _load(self, names: list[str], pixels: NDArray[np.uint8]) -> _Load:
        features = features_of(self._session.run(pixels), self._head.card.spaces)
        return _Load(names, pixels, probabilities_of(self._head, features))

    def _pixels(self, check_images: Sequence[str | Path]) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
        """Yields loads of named images, first the random ones."""
        height, width = self._backbone.input_size
        chance = np.random.default_rng(SEED)
        noise = chance.integers(0, 256, (RANDOM_IMAGES, height, width, 3), dtype=np.uint8)
        yield [f"random image {number}" for number in range(RANDOM_IMAGES)], noise
        for start in range(0, len(check_images), LOAD_IMAGES):
            read = {}
            for path in check_images[start : start + LOAD_IMAGES]:
                try:
                    read[str(path)] = decode(read_again(path), self._backbone.card.preprocessing)
                except (ImageError, OSError):
                    self.unreadable_images += 1
            if read:
                yield list(read), np.stack(list(read.values()))
