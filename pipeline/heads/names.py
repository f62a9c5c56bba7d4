"""The names of the built-in heads, and the kinds of target that a head predicts."""

from typing import Literal

from penult.errors import InputError

__all__ = ["AUTO", "CLASS_HEADS", "DEFAULT", "GROUP", "UNWEIGHTED", "Task", "class_weight_error"]

DEFAULT = "logistic"

AUTO = "auto"
"""Selects the fast head with the best score on held-out training images."""

GROUP = "penult.heads"
"""The entry-point group in which other packages register heads."""

Task = Literal["classification", "regression", "multilabel"]
"""What a head predicts: one of several classes, a number, or a set of tags."""

CLASS_HEADS = (
    "logistic",
    "ridge",
    "lda",
    "linear-svc",
    "svc",
    "knn",
    "centroid",
    "gaussian-nb",
    "random-forest",
    "mlp",
    "lightgbm",
)

UNWEIGHTED = ("knn", "mlp")
"""The class heads that do not support class weights."""


def class_weight_error(head: str) -> InputError:
    """Returns the error for a head without class weights; it names the heads that have them."""
    able = [name for name in CLASS_HEADS if name not in UNWEIGHTED]
    return InputError(
        f"the head {head} does not support class weights",
        expected="no class weight",
        remedy=f"use one of {', '.join(able)}",
    )
