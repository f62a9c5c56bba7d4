"""Images that are nearly the same picture, and images that are like no other, by the cosine of their features."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Neighbours", "near_duplicates", "nearest", "outliers"]

BLOCK = 2048

K = 5
"""How many neighbours say how far off an image is: one could be a twin."""


@dataclass(frozen=True)
class Neighbours:
    """For each row the cosines (n, k) of its nearest others, best first, and the pairs beyond a threshold."""

    cosines: NDArray[np.float32]
    pairs: NDArray[np.intp]
    pair_cosines: NDArray[np.float32]


def nearest(features: NDArray[np.floating], *, threshold: float) -> Neighbours:
    """Finds each row's nearest others, and all pairs whose cosine is at least ``threshold``, a block at a time.

    The mean is taken off first: features after a ReLU all point the same way, and their cosines would hardly differ.
    """
    centred = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    directions = (centred / np.maximum(norms, 1e-12)).astype(np.float32)
    k = min(K, len(features) - 1)
    cosines = np.empty((len(features), k), np.float32)
    pairs, values = [np.empty((0, 2), np.intp)], [np.empty(0, np.float32)]
    for start in range(0, len(features), BLOCK):
        block = directions[start : start + BLOCK] @ directions.T
        rows = np.arange(len(block))
        block[rows, start + rows] = -2
        cosines[start : start + BLOCK] = -np.sort(np.partition(-block, k - 1, axis=1)[:, :k], axis=1) if k else 0
        first, second = np.nonzero(block >= threshold)
        once = first + start < second
        pairs.append(np.column_stack([first[once] + start, second[once]]))
        values.append(block[first[once], second[once]])
    return Neighbours(cosines, np.concatenate(pairs), np.concatenate(values))


def near_duplicates(found: Neighbours, n: int) -> list[tuple[list[int], float]]:
    """Joins the pairs into groups of rows, each with the lowest cosine of its pairs; the likest group first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(found.pairs):
        return []
    first, second = found.pairs.T
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(n, n))
    names = connected_components(graph, directed=False)[1]
    lowest = np.full(names.max() + 1, np.inf, np.float32)
    np.minimum.at(lowest, names[first], found.pair_cosines)
    # The rows of one group stand beside each other in the order of the groups.
    members = np.split(np.argsort(names, kind="stable"), np.cumsum(np.bincount(names))[:-1])
    groups = [(members[group].tolist(), float(lowest[group])) for group in np.flatnonzero(np.isfinite(lowest))]
    return sorted(groups, key=lambda group: -group[1])


def outliers(found: Neighbours) -> list[tuple[int, float]]:
    """Returns rows whose mean cosine to their nearest is unusually low, with that mean, the farthest first.

    Unusually is below the lower quartile by more than one and a half times the distance of the quartiles (Tukey).
    """
    if not found.cosines.size:
        return []
    mean = found.cosines.mean(axis=1)
    low, high = np.quantile(mean, [0.25, 0.75])
    rows = np.flatnonzero(mean < low - 1.5 * (high - low))
    return [(int(row), float(mean[row])) for row in rows[np.argsort(mean[rows], kind="stable")]]
