"""The standardised rows in their basis, a block at a time, with the class sums that closed-form heads start from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.heads.basis import Basis
from penult.pipeline.heads.blocks import BLOCK, standardised

__all__ = ["Rotation"]


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
            np.add.at(sums, codes[part], features[part])
        centres = ((sums / counts[:, None] - basis.mean) / basis.scale) @ basis.axes
        return cls(features, basis, codes, counts, centres)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Each class's share of the rows."""
        return self.counts / len(self.codes)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yields slices of rows with these rows in the basis, (m, r) in float32."""
        axes = self.basis.axes.astype(np.float32)
        for start in range(0, len(self.codes), BLOCK):
            part = slice(start, start + BLOCK)
            yield part, standardised(self.features[part], self.basis.mean, self.basis.scale) @ axes
