"""How far images are from ImageNet photos, on which a backbone was trained, by the statistics of its features.

The distance is the Fréchet distance of two Gaussians with diagonal covariances, divided by the total variance of the
photos. It compares the mean and the standard deviation of each feature. It depends on the number of images, so it is
measured at the same number as the distances of known sets. The predictions of the network's own classifier, and their
confidence, do not separate near from far sets, and are not used.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.words import listed
from penult.store import Space, SpaceSpec

__all__ = ["SIZES", "ImageNetDistance", "distances", "feature_distance", "imagenet_distance", "reference"]

# The distance is measured with the first of these numbers of images that the dataset has.
SIZES = (100, 50, 25)

MOST_SAMPLES = 20


@dataclass(frozen=True)
class ImageNetDistance:
    """The mean distance of samples of ``n`` images, its range, and the distances of known sets at the same size.

    ``photographs`` are sets of natural photographs, ``unlike`` other sets, by name.
    """

    n: int
    distance: float
    low: float
    high: float
    photos: int
    photographs: Mapping[str, float]
    unlike: Mapping[str, float]

    @property
    def is_near(self) -> bool | None:
        """Whether the images are as near as photographs (True) or as far as other sets (False); None in between."""
        near, far = max(self.photographs.values()), min(self.unlike.values())
        third = (far - near) / 3
        return True if self.distance < near + third else False if self.distance > far - third else None

    @property
    def sentence(self) -> str:
        """The distance and what it is compared with, in one sentence."""
        kind = {True: "similar to ImageNet", False: "far from ImageNet", None: "neither similar to ImageNet nor far"}
        return (
            f"The images are {kind[self.is_near]}: the feature distance of {self.n} images to {self.photos} ImageNet "
            f"photos is {self.distance:.2f}, compared with {_listed({**self.photographs, **self.unlike})}."
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as plain data."""
        return {**vars(self), "is_near": self.is_near}


def imagenet_distance(spaces: Sequence[Space], keys: NDArray[np.uint8]) -> ImageNetDistance | None:
    """Measures how far the images of ``keys`` are from ImageNet.

    The result is None unless the penultimate tap of the built-in backbone is among ``spaces`` and there are 25 images.
    """
    known = reference()
    matching = [space for space in spaces if _is_reference_space(space.spec, known)]
    size = next((size for size in SIZES if size <= len(keys)), None)
    if not matching or size is None:
        return None
    mean, deviation = (np.array(known[name], np.float64) for name in ("mean", "deviation"))
    rows = matching[0].gather(keys[: size * MOST_SAMPLES])
    sampled = distances(rows, size, mean, deviation)
    low, high = np.quantile(sampled, [0.025, 0.975])
    others = known["known"][str(size)]
    return ImageNetDistance(
        size,
        float(sampled.mean()),
        float(low),
        float(high),
        int(known["photos"]),
        others["photographs"],
        others["unlike"],
    )


def distances(
    rows: NDArray[np.floating], size: int, mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the distances of up to twenty samples of ``size`` consecutive rows.

    Rows are sorted by key, and keys are hashes, so consecutive rows are a repeatable random sample.
    """
    starts = range(0, size * min(MOST_SAMPLES, len(rows) // size), size)
    return np.array([feature_distance(rows[start : start + size], mean, deviation) for start in starts])


def feature_distance(rows: NDArray[np.floating], mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> float:
    """Returns the squared distance of the means and standard deviations of ``rows`` (n, D), over the total variance.

    >>> feature_distance(np.array([[0.0, 2.0], [1.0, 3.0], [2.0, 4.0]]), np.array([1.0, 1.0]), np.array([1.0, 1.0]))
    2.0
    """
    wide = rows.astype(np.float64)
    apart = ((wide.mean(axis=0) - mean) ** 2).sum() + ((wide.std(axis=0, ddof=1) - deviation) ** 2).sum()
    return float(apart / (deviation**2).sum())


@cache
def reference() -> dict[str, Any]:
    """Returns the feature statistics of ImageNet photos, which ``python -m benchmarks.imagenet_reference`` wrote."""
    text = (resources.files(__package__) / "imagenet_reference.json").read_text()
    known: dict[str, Any] = json.loads(text)
    return known


def _is_reference_space(spec: SpaceSpec, known: Mapping[str, Any]) -> bool:
    return (spec.fingerprint, spec.tap, spec.view) == (known["fingerprint"], known["tap"], "identity")


def _listed(known: Mapping[str, float]) -> str:
    return listed([f"{name} at {value:.2f}" for name, value in sorted(known.items(), key=lambda pair: pair[1])])
