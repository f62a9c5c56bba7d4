"""The map of the embedding: each image is a dot, close to images with similar features."""

import warnings
from dataclasses import dataclass
from os import fspath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.defaults import MAP_METHODS
from penult.errors import InputError, MissingExtraError, UnknownNameError
from penult.pipeline.report.content import Embedding
from penult.pipeline.words import file_label, printable, shortened

WIDTH, HEIGHT, MARGIN = 800, 520, 16
MOST_DOTS = 4000
MOST_PICTURES = 260
COLOURS = 8

# With fewer images UMAP has no neighbourhoods to learn from.
FEWEST_FOR_UMAP = 15


@dataclass(frozen=True)
class MapLayer:
    """The dots of one class as one SVG path, with the name in the legend."""

    name: str
    colour: int
    count: int
    path: str


@dataclass(frozen=True)
class Landscape:
    """The drawing of the map. ``rows`` are the images of its dots, ``pictured`` those with a thumbnail on hover."""

    layers: tuple[MapLayer, ...]
    right: str
    wrong: str
    wrong_count: int
    rows: tuple[int, ...]
    pictured: tuple[str, ...]
    total: int
    places: NDArray[np.int64]


def landscape_of(embedding: Embedding) -> Landscape:
    """Returns the map: all mistakes, and a sample of the other images if there are too many."""
    wrong = _wrong(embedding)
    rows = _sampled(len(embedding.paths), wrong)
    places = _fitted(np.asarray(embedding.coordinates, dtype=np.float64))
    names = sorted(set(embedding.labels))
    by_label: dict[str, list[int]] = {name: [] for name in names}
    for row in rows:
        by_label[embedding.labels[row]].append(row)
    layers = tuple(
        MapLayer(name, place % COLOURS, len(by_label[name]), _dots(places, by_label[name]))
        for place, name in enumerate(names)
    )
    return Landscape(
        layers=layers,
        right=_dots(places, [row for row in rows if not wrong[row]]),
        wrong=_dots(places, [row for row in rows if wrong[row]]),
        wrong_count=int(wrong.sum()),
        rows=tuple(rows),
        pictured=tuple(fspath(embedding.paths[row]) for row in _spread(places, rows, wrong)),
        total=len(embedding.paths),
        places=places,
    )


def hover_data(embedding: Embedding, landscape: Landscape, pictures: dict[str, str]) -> dict[str, object]:
    """Returns the data for the script of the page: [x, y, label, predicted, thumbnail, file] per dot."""
    names = sorted(set(embedding.labels))  # in the order of the layers
    names += sorted({*(embedding.predicted or ())} - {*names})
    number = {name: place for place, name in enumerate(names)}
    dots = [
        [
            int(landscape.places[row, 0]),
            int(landscape.places[row, 1]),
            number[embedding.labels[row]],
            -1 if embedding.predicted is None else number[embedding.predicted[row]],
            pictures.get(fspath(embedding.paths[row]), ""),
            printable(shortened(file_label(embedding.paths[row]), 44)),
        ]
        for row in landscape.rows
    ]
    return {"names": [printable(name) for name in names], "dots": dots}


def _wrong(embedding: Embedding) -> NDArray[np.bool_]:
    if embedding.predicted is None:
        return np.zeros(len(embedding.paths), dtype=np.bool_)
    return np.array([a != b for a, b in zip(embedding.labels, embedding.predicted, strict=True)], dtype=np.bool_)


def _sampled(n: int, wrong: NDArray[np.bool_]) -> list[int]:
    if n <= MOST_DOTS:
        return list(range(n))
    must = np.flatnonzero(wrong)[: MOST_DOTS // 2]
    others = np.flatnonzero(~wrong)
    chosen = np.random.default_rng(0).choice(others, min(len(others), MOST_DOTS - len(must)), replace=False)
    return sorted({*must.tolist(), *chosen.tolist()})


def _fitted(coordinates: NDArray[np.float64]) -> NDArray[np.int64]:
    """Scales to the drawing. The outermost 0.1 % are clipped to its edge, so that they do not compress the rest."""
    low, high = np.quantile(coordinates, [0.001, 0.999], axis=0) if len(coordinates) > 1000 else _range(coordinates)
    share = np.clip((coordinates - low) / np.where(high > low, high - low, 1), 0, 1)
    placed = MARGIN + share * np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
    placed[:, 1] = HEIGHT - placed[:, 1]
    whole: NDArray[np.int64] = np.rint(placed).astype(np.int64)
    return whole


def _range(coordinates: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not len(coordinates):
        return np.zeros(2), np.ones(2)
    return coordinates.min(axis=0), coordinates.max(axis=0)


def _dots(places: NDArray[np.int64], rows: list[int]) -> str:
    """Returns one path with a dot per row: zero-length lines with round ends take a tenth of the bytes of circles."""
    return "".join(f"M{x} {y}h0" for x, y in places[rows].tolist())


def _spread(places: NDArray[np.int64], rows: list[int], wrong: NDArray[np.bool_]) -> list[int]:
    """Returns the rows with a thumbnail: mistakes first, then one per patch of the map, in ever finer patches."""
    chosen = [row for row in rows if wrong[row]][: MOST_PICTURES // 2]
    taken = set(chosen)
    for patch in (80, 40, 20, 1):
        seen = {tuple(places[row] // patch) for row in chosen}
        for row in rows:
            if len(chosen) >= MOST_PICTURES:
                return chosen
            if row not in taken and (patch == 1 or tuple(places[row] // patch) not in seen):
                seen.add(tuple(places[row] // patch))
                taken.add(row)
                chosen.append(row)
    return chosen


def project(features: NDArray[np.floating[Any]], method: str = "pca") -> NDArray[np.float64]:
    """Returns positions (n, 2) for ``features`` (n, D) by PCA or UMAP.

    UMAP keeps neighbours together where principal components overlap. It needs an extra, and tens of seconds. The same
    features always give the same map.

    >>> project(np.array([[0.0, 0.0], [3.0, 0.0], [6.0, 0.0]])).round(6).tolist()
    [[-3.0, 0.0], [0.0, 0.0], [3.0, 0.0]]
    """
    rows = np.asarray(features, dtype=np.float32)
    if rows.ndim != 2 or not rows.size:
        raise InputError(f"features of the shape {rows.shape} cannot be drawn as a map", expected="(images, width)")
    if method not in MAP_METHODS:
        raise UnknownNameError.among("map", method, MAP_METHODS)
    return _by_umap(rows) if method == "umap" and len(rows) > FEWEST_FOR_UMAP else _by_components(rows)


def _by_components(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore", divide="ignore"):  # a single row has no variance
        placed = PCA(min(2, *rows.shape), random_state=0).fit_transform(rows.astype(np.float64))
    return np.pad(placed, ((0, 0), (0, 2 - placed.shape[1])))


def _by_umap(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    try:
        from umap import UMAP
    except ImportError:
        raise MissingExtraError.of("umap-learn", "umap", "A UMAP map") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # UMAP warns that a fixed seed limits it to one thread
        placed = UMAP(random_state=0, metric="cosine").fit_transform(rows)
    return np.asarray(placed, np.float64)
