"""The names of the heads, and what kinds of target they predict."""

from typing import Literal

from penult.errors import InputError

__all__ = ["AUTO", "CLASS_HEADS", "DEFAULT", "GROUP", "WEIGHTLESS", "Task", "cannot_weight"]

DEFAULT = "logistic"
AUTO = "auto"
"""The word for whichever of the quick heads does best on held-out training images."""

GROUP = "penult.heads"

Task = Literal["classification", "regression", "multilabel"]
"""What a head is to tell: one class of several, a number, or which tags an image bears."""

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

WEIGHTLESS = ("knn", "mlp")
"""The heads for classes that cannot give a rare class the weight of a frequent one."""


def cannot_weight(head: str) -> InputError:
    """Returns the refusal of a class weight, which names the heads that take one."""
    able = [name for name in CLASS_HEADS if name not in WEIGHTLESS]
    return InputError(
        f"the head {head} cannot weight classes",
        expected="no class weight",
        remedy=f"take one of {', '.join(able)}",
    )
