"""Gives a head its features exactly as its spaces keep them, wherever they come from."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.heads.head import Head, SpaceRef

__all__ = ["features_of", "probabilities_of"]


def features_of(matrices: Mapping[str, NDArray[np.floating]], spaces: Sequence[SpaceRef]) -> NDArray[np.float32]:
    """Returns the matrices of the taps side by side (N, D) in the order of ``spaces``, each rounded as it is stored.

    A value that float16 cannot hold becomes infinite; `extract` refuses such an image.
    """
    with np.errstate(over="ignore"):
        parts = [matrices[space.tap].astype(space.dtype).astype(np.float32) for space in spaces]
    return np.concatenate(parts, axis=1)


def probabilities_of(head: Head, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the probabilities (N, C) that the head gives, computed in float64; of a number, the numbers (N, 1)."""
    if head.card.task == "regression":
        return head.predict(features)[:, None]
    return np.asarray(head.predict_proba(features), np.float64)
