"""The standardised rows in their basis, a block at a time, with the class sums that closed-form heads start from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from penult.pipeline.heads.basis import Basis
from penult.pipeline.heads.blocks import BLOCK, standardised
from penult.pipeline.heads.folds import sample

__all__ = ["Rotation"]

MOST_SCORES = 20_000_000
"""Left-out scores that are held at once (80 MB): with a thousand classes those of some thousand rows have to do."""

FEWEST_ROWS = 2048


@dataclass(frozen=True)
class Rotation:
    """Feature rows (n, D) seen through a basis, and their classes' counts and centres in it.

    ``centres`` (C, r) are the classes' means; the mean of all rows is the origin.
    """

    features: NDArray[np.floating]
    basis: Basis
    codes: NDArray[np.intp]
    counts: NDArray[np.intp]
    centres: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.floating], codes: NDArray[np.intp], basis: Basis | None) -> Self:
        """Sums the rows of each class, and finds the basis if it is not known."""
        basis = basis or Basis.of(features)
        counts = np.bincount(codes)
        sums = np.zeros((len(counts), features.shape[1]))
        for start in range(0, len(codes), BLOCK):
            part = slice(start, start + BLOCK)
            own = codes[part]
            members = csr_array((np.ones(len(own)), (own, np.arange(len(own)))), shape=(len(counts), len(own)))
            sums += members @ features[part].astype(np.float64)
        centres = ((sums / counts[:, None] - basis.mean) / basis.scale) @ basis.axes
        return cls(features, basis, codes, counts, centres)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Each class's share of the rows."""
        return self.counts / len(self.codes)

    def left_out(self, levels: int) -> NDArray[np.intp]:
        """Returns the rows to score ``levels`` models on: all, or as many as their scores have room for."""
        return sample(self.codes, max(FEWEST_ROWS, MOST_SCORES // (levels * len(self.counts))), seed=0)

    def blocks(self, rows: NDArray[np.intp]) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.intp]]]:
        """Yields slices of ``rows``, and these rows in the basis, (m, r) in float32, with their codes."""
        axes = self.basis.axes.astype(np.float32)
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            # A slice where all rows are wanted: it is looked at without a copy.
            chosen = part if len(rows) == len(self.codes) else rows[part]
            turned = standardised(self.features[chosen], self.basis.mean, self.basis.scale) @ axes
            yield part, turned, self.codes[chosen]
