"""From many dimensions to the two of a map."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError


def project(features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Returns the first two principal components (n, 2) of ``features`` (n, D).

    The signs are fixed, so that the same features always give the same map.

    >>> project(np.array([[0.0, 0.0], [3.0, 0.0], [6.0, 0.0]])).round(6).tolist()
    [[-3.0, 0.0], [0.0, 0.0], [3.0, 0.0]]
    """
    rows = np.asarray(features, dtype=np.float32)
    if rows.ndim != 2 or not rows.size:
        raise InputError(f"features of the shape {rows.shape} cannot be drawn as a map", expected="(images, width)")
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
