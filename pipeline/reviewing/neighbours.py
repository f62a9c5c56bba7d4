"""Near duplicates and outliers, by the cosine similarity of centred features."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Neighbours", "near_duplicates", "nearest", "outliers"]

# Rows are compared in blocks of this size.
BLOCK = 2048

# An outlier is far from this many neighbours: the nearest one could be a duplicate.
K = 5


@dataclass(frozen=True)
class Neighbours:
    """The cosine similarities (n, k) of each row to its nearest others, best first, and the pairs above a threshold."""

    cosines: NDArray[np.float32]
    pairs: NDArray[np.intp]
    pair_cosines: NDArray[np.float32]


def nearest(features: NDArray[np.floating], *, threshold: float) -> Neighbours:
    """Returns the nearest others of each row, and all pairs with a cosine similarity of at least ``threshold``.

    The mean is subtracted first: features after a ReLU all point in a similar direction.
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
    """Returns connected groups of rows with the lowest similarity of their pairs, the most similar group first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(found.pairs):
        return []
    first, second = found.pairs.T
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(n, n))
    names = connected_components(graph, directed=False)[1]
    lowest = np.full(names.max() + 1, np.inf, np.float32)
    np.minimum.at(lowest, names[first], found.pair_cosines)
    members = np.split(np.argsort(names, kind="stable"), np.cumsum(np.bincount(names))[:-1])
    groups = [(members[group].tolist(), float(lowest[group])) for group in np.flatnonzero(np.isfinite(lowest))]
    return sorted(groups, key=lambda group: -group[1])


def outliers(found: Neighbours) -> list[tuple[int, float]]:
    """Returns rows with an unusually low mean similarity to their nearest others, and that mean, the lowest first.

    Unusually low is more than 1.5 times the interquartile range below the lower quartile (Tukey).
    """
    if not found.cosines.size:
        return []
    mean = found.cosines.mean(axis=1)
    low, high = np.quantile(mean, [0.25, 0.75])
    rows = np.flatnonzero(mean < low - 1.5 * (high - low))
    return [(int(row), float(mean[row])) for row in rows[np.argsort(mean[rows], kind="stable")]]
