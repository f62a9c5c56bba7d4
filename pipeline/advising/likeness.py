"""How far images lie from photos of ImageNet, on which a backbone was trained, by the statistics of its features.

The distance is that of Fréchet between two Gaussians without their covariances, over the photos' total variance: the
channels' means and deviations are compared, each by itself. It depends on the number of images, so it is taken of as
many images as those of known sets that it is held against. What the network's own classes answer, and how surely, does
not tell near from far.
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

__all__ = ["SIZES", "Likeness", "distances", "feature_distance", "likeness"]

SIZES = (100, 50, 25)
"""Of how many images a distance is taken: the first that there are enough for."""

MOST_DRAWS = 20


@dataclass(frozen=True)
class Likeness:
    """The mean distance of draws of ``n`` images each, its range, and where known sets lie at the same size.

    ``photographs`` and ``unlike`` hold the distances of sets of natural photographs, and of others, by name.
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
        """Whether the images are as near as photographs, or as far as others; None between the two."""
        near, far = max(self.photographs.values()), min(self.unlike.values())
        third = (far - near) / 3
        return True if self.distance < near + third else False if self.distance > far - third else None

    @property
    def sentence(self) -> str:
        """What the distance says, with what it rests on."""
        kind = {True: "near to ImageNet", False: "far from ImageNet", None: "neither near to ImageNet nor far from it"}
        return (
            f"they lie {kind[self.is_near]}: {self.n} of them have a feature distance of {self.distance:.2f} from "
            f"{self.photos} of its photos; {_listed({**self.photographs, **self.unlike})} have been measured."
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the figures as plain data."""
        return {**vars(self), "is_near": self.is_near}


def likeness(spaces: Sequence[Space], keys: NDArray[np.uint8]) -> Likeness | None:
    """Measures how far the images of ``keys`` lie from ImageNet; None for other backbones than the built-in one.

    ``spaces`` are those in use: the tap whose reference is known must be among them. Fewer than 25 images tell nothing.
    """
    known = reference()
    mine = [space for space in spaces if is_of(space.spec, known)]
    size = next((size for size in SIZES if size <= len(keys)), None)
    if not mine or size is None:
        return None
    mean, deviation = (np.array(known[name], np.float64) for name in ("mean", "deviation"))
    rows = mine[0].gather(keys[: size * MOST_DRAWS])
    drawn = distances(rows, size, mean, deviation)
    low, high = np.quantile(drawn, [0.025, 0.975])
    others = known["known"][str(size)]
    return Likeness(
        size,
        float(drawn.mean()),
        float(low),
        float(high),
        int(known["photos"]),
        others["photographs"],
        others["unlike"],
    )


def distances(
    rows: NDArray[np.floating], size: int, mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the distances of up to twenty draws of ``size`` rows each, which stand in the order of their keys.

    Keys are hashes, so that rows which follow one another are drawn at random, and the same for ever.
    """
    draws = min(MOST_DRAWS, len(rows) // size)
    return np.array([feature_distance(rows[draw * size : (draw + 1) * size], mean, deviation) for draw in range(draws)])


def feature_distance(rows: NDArray[np.floating], mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> float:
    """Returns the squared distance of the means and deviations of ``rows`` (n, D) over the total variance.

    >>> feature_distance(np.array([[0.0, 2.0], [1.0, 3.0], [2.0, 4.0]]), np.array([1.0, 1.0]), np.array([1.0, 1.0]))
    2.0
    """
    wide = rows.astype(np.float64)
    apart = ((wide.mean(axis=0) - mean) ** 2).sum() + ((wide.std(axis=0, ddof=1) - deviation) ** 2).sum()
    return float(apart / (deviation**2).sum())


@cache
def reference() -> dict[str, Any]:
    """Returns what is known of ImageNet's photos, as ``python -m benchmarks.imagenet_reference`` wrote it."""
    text = (resources.files(__package__) / "imagenet_reference.json").read_text()
    known: dict[str, Any] = json.loads(text)
    return known


def is_of(spec: SpaceSpec, known: Mapping[str, Any]) -> bool:
    """Returns whether a space holds the features that the reference is of."""
    return (spec.fingerprint, spec.tap, spec.view) == (known["fingerprint"], known["tap"], "identity")


def _listed(known: Mapping[str, float]) -> str:
    return listed([f"{name} at {value:.2f}" for name, value in sorted(known.items(), key=lambda pair: pair[1])])
