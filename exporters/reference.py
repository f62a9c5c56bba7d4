"""Reference vectors: the outputs of a backbone for a fixed batch, so that any machine can check its own results.

An integer formula defines the batch, without a random generator or a file. The vectors are on the card.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from penult.errors import BackboneError

__all__ = ["REFERENCE_IMAGES", "Tolerance", "compare", "describe", "reference_batch"]

REFERENCE_IMAGES = 2
_COMPONENTS = 256  # stored per vector, evenly spaced, so that a card stays small even for a flattened tap

Tolerance = Literal["fp32", "tf32", "fp16", "bf16"]

# (lowest cosine, largest relative error). Providers sum in different orders, which gave errors of 1e-6 between CPUs.
# A mantissa of 10 bits (TF32 and fp16) gave errors below 2e-2 over fifty layers. Wrong weights or a wrong layout give
# 1e-1. The 7 bits of bfloat16 gave 8e-2, so its check finds only gross errors.
_LIMITS: dict[str, tuple[float, float]] = {
    "fp32": (0.99999, 1e-3),
    "tf32": (0.999, 2e-2),
    "fp16": (0.999, 4e-2),
    "bf16": (0.99, 1.5e-1),
}


def reference_batch(height: int, width: int, count: int = REFERENCE_IMAGES) -> npt.NDArray[np.uint8]:
    """Returns ``count`` generated images (height, width, 3): gradients, plaids and grain, different per channel.

    >>> reference_batch(4, 5).shape
    (2, 4, 5, 3)
    """
    n, y, x, c = np.meshgrid(*(np.arange(k, dtype=np.int64) for k in (count, height, width, 3)), indexing="ij")
    gradient = (x * (96 + 32 * c) // width + y * (160 - 32 * c) // height + 40 * n) % 256
    plaid = (((x * (3 + n)) ^ (y * (5 + c))) >> 2) % 128
    grain = (x * 2654435761 + y * 2246822519 + c * 3266489917 + n * 668265263) // 4096 % 48
    images: npt.NDArray[np.uint8] = ((gradient + plaid + grain) % 256).astype(np.uint8)
    return images


def describe(outputs: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, Any]:
    """Returns the card's ``reference`` for the outputs of the reference batch."""
    vectors = {}
    for name, rows in outputs.items():
        kept = np.ascontiguousarray(_spaced(rows), dtype="<f4")
        vectors[name] = {"width": int(rows.shape[1]), "float32_base64": base64.b64encode(kept.tobytes()).decode()}
    return {"images": len(next(iter(outputs.values()))), "outputs": vectors}


def compare(
    reference: Mapping[str, Any], outputs: Mapping[str, npt.NDArray[np.floating[Any]]], tolerance: Tolerance
) -> dict[str, tuple[float, float]]:
    """Returns the lowest cosine and the largest relative error of each output against the card's vectors.

    Raises:
        BackboneError: an output is outside the tolerance.
    """
    lowest_cosine, largest_error = _LIMITS[tolerance]
    seen = {}
    for name, rows in outputs.items():
        wanted = _stored(reference, name)
        given = _spaced(np.asarray(rows, dtype=np.float64))
        if given.shape != wanted.shape:
            raise BackboneError(
                f"The output {name!r} of the reference batch has shape {rows.shape}",
                expected=f"{wanted.shape[0]} rows of width {reference['outputs'][name]['width']}",
            )
        cosine, error = _distance(given, wanted)
        if not (cosine >= lowest_cosine and error <= largest_error):
            raise BackboneError(
                f"This machine computes different features: {name!r} of the reference batch has cosine {cosine:.6f} "
                f"and relative error {error:.2g} compared with the card",
                expected=f"cosine at least {lowest_cosine}, relative error at most {largest_error:g} ({tolerance})",
                remedy="try another provider, or export the backbone again",
            )
        seen[name] = (cosine, error)
    return seen


def _distance(given: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> tuple[float, float]:
    norms = np.linalg.norm(wanted, axis=1)
    length = np.linalg.norm(given, axis=1) * norms
    if not np.isfinite(given).all() or not norms.all():
        return float("nan"), float("nan")
    cosine = (given * wanted).sum(axis=1) / np.where(length > 0, length, 1.0)
    return float(cosine.min()), float((np.linalg.norm(given - wanted, axis=1) / norms).max())


def _spaced(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    step = -(-rows.shape[1] // _COMPONENTS) if rows.ndim == 2 else 1
    return rows[:, ::step] if rows.ndim == 2 else rows


def _stored(reference: Mapping[str, Any], name: str) -> npt.NDArray[np.float64]:
    try:
        raw = base64.b64decode(reference["outputs"][name]["float32_base64"], validate=True)
        return np.frombuffer(raw, dtype="<f4").reshape(int(reference["images"]), -1).astype(np.float64)
    except (KeyError, TypeError, ValueError, binascii.Error) as reason:
        raise BackboneError(
            f"The card contains no valid reference vectors for {name!r}",
            expected="vectors for every tap and for the logits",
            remedy="export the backbone again",
        ) from reason
