"""From many dimensions to the two of a map."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError, MissingExtraError, UnknownNameError

METHODS = ("pca", "umap")

# Below so many images UMAP has no neighbourhoods to learn from.
FEWEST_FOR_UMAP = 15


def project(features: NDArray[np.floating[Any]], method: str = "pca") -> NDArray[np.float64]:
    """Returns places (n, 2) for ``features`` (n, D): the first two principal components, or UMAP's.

    UMAP keeps neighbours together where the components would lay groups over one another; it needs an extra, and
    tens of seconds. The same features always give the same map: signs and seeds are fixed.

    >>> project(np.array([[0.0, 0.0], [3.0, 0.0], [6.0, 0.0]])).round(6).tolist()
    [[-3.0, 0.0], [0.0, 0.0], [3.0, 0.0]]
    """
    rows = np.asarray(features, dtype=np.float32)
    if rows.ndim != 2 or not rows.size:
        raise InputError(f"features of the shape {rows.shape} cannot be drawn as a map", expected="(images, width)")
    if method not in METHODS:
        raise UnknownNameError.among("map", method, METHODS)
    return _by_umap(rows) if method == "umap" and len(rows) > FEWEST_FOR_UMAP else _by_components(rows)


def _by_components(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    centred = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    n, width = centred.shape
    # The smaller of the two products has the same leading vectors and costs a fraction of a full decomposition.
    if n >= width:
        directions = _leading(centred.T @ centred)
        placed = (centred @ directions).astype(np.float64)
    else:
        sides = _leading(centred @ centred.T)
        lengths = np.linalg.norm(centred.T @ sides, axis=0)
        directions = (centred.T @ sides) / np.where(lengths > 0, lengths, 1)
        placed = (sides * lengths).astype(np.float64)
    for column in range(placed.shape[1]):
        if directions[np.abs(directions[:, column]).argmax(), column] < 0:
            placed[:, column] *= -1
    return np.pad(placed, ((0, 0), (0, 2 - placed.shape[1])))


def _leading(product: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the two eigenvectors of the largest eigenvalues, the first one first; one where there is but one."""
    _, vectors = np.linalg.eigh(product.astype(np.float64))
    return vectors[:, ::-1][:, :2].astype(np.float32)


def _by_umap(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    try:
        from umap import UMAP
    except ImportError:
        raise MissingExtraError.of("umap-learn", "umap", "A UMAP map") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells that a fixed seed keeps it to one thread
        placed = UMAP(random_state=0, metric="cosine").fit_transform(rows)
    return np.asarray(placed, np.float64)
