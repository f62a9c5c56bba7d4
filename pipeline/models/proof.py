"""Compares a model with its head on real and random images, before the model is written."""

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

__all__ = ["TOLERANCE", "Proof", "ReferenceOutputs"]

TOLERANCE = 1e-5
"""The largest allowed difference between a probability of the model and of the head."""

RANDOM_IMAGES = 8
SEED = 20_231
BATCH_IMAGES = 64


@dataclass(frozen=True)
class Proof:
    """The result of a comparison in which no label differed."""

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
class _Batch:
    names: list[str]
    pixels: NDArray[np.uint8]
    probabilities: NDArray[np.float64]


def _float32_session(backbone: Backbone, taps: Sequence[str]) -> GraphRunner:
    """Returns a float32 session, also for a backbone that prefers bfloat16, because the file will run in float32."""
    if backbone.card.precision == "bf16":
        return GraphRunner(backbone.serialized(taps), taps, ProviderChoice("cpu"))
    return Session(backbone, taps, provider="cpu")


class ReferenceOutputs:
    """The images of the comparison and the head's probabilities for them; unreadable images are counted."""

    def __init__(self, head: Head, backbone: Backbone, check_images: Sequence[str | Path]) -> None:
        self._head, self._backbone = head, backbone
        self._session = _float32_session(backbone, taps_of(head.card.spaces, backbone))
        self.unreadable_images = 0
        self._batches = [self._batch(names, pixels) for names, pixels in self._pixels(check_images)]

    def compare(self, graph: bytes, precision: str) -> Proof:
        """Compares the model ``graph`` with the head.

        Raises:
            BundleMismatchError: a label differs, or a probability by more than the tolerance.
        """
        import onnxruntime

        runner = GraphRunner(graph, [LABEL, PROBABILITIES], ProviderChoice("cpu"))
        differences = [self._compare(runner, batch) for batch in self._batches]
        real = sum(len(batch.names) for batch in self._batches) - RANDOM_IMAGES
        return Proof(
            real, self.unreadable_images, RANDOM_IMAGES, max(differences), TOLERANCE, precision, onnxruntime.__version__
        )

    def _compare(self, runner: GraphRunner, batch: _Batch) -> float:
        given = runner.run(batch.pixels)
        differences = np.abs(given[PROBABILITIES] - batch.probabilities).max(axis=1)
        classes = self._head.card.classes
        expected = [str(classes[index]) for index in batch.probabilities.argmax(axis=1)]
        wrong = (np.array(expected) != given[LABEL].astype(np.str_)) | ~(differences <= TOLERANCE)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise BundleMismatchError(
                f"For {batch.names[row]} the bundled model predicts {given[LABEL][row]!r} and the head "
                f"{expected[row]!r}, and a probability differs by {differences[row]:.2g}",
                expected=f"the same label, and probabilities within {TOLERANCE:g}",
                remedy="no file was written; bundle another kind of head, or predict with the head and its store",
            )
        return float(differences.max())

    def _batch(self, names: list[str], pixels: NDArray[np.uint8]) -> _Batch:
        features = features_of(self._session.run(pixels), self._head.card.spaces)
        return _Batch(names, pixels, probabilities_of(self._head, features))

    def _pixels(self, check_images: Sequence[str | Path]) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
        """Yields batches of named images, the random images first."""
        height, width = self._backbone.input_size
        rng = np.random.default_rng(SEED)
        noise = rng.integers(0, 256, (RANDOM_IMAGES, height, width, 3), dtype=np.uint8)
        yield [f"random image {number}" for number in range(RANDOM_IMAGES)], noise
        for start in range(0, len(check_images), BATCH_IMAGES):
            read = {}
            for path in check_images[start : start + BATCH_IMAGES]:
                try:
                    read[str(path)] = decode(read_again(path), self._backbone.card.preprocessing)
                except (ImageError, OSError):
                    self.unreadable_images += 1
            if read:
                yield list(read), np.stack(list(read.values()))
