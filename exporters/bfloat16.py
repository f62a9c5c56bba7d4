"""A backbone whose float32 graph is computed in bfloat16: faster where a CPU has that, and a space of its own."""

from dataclasses import replace

import onnx

from penult.errors import BackboneError
from penult.exporters.backbone import Backbone

__all__ = ["in_bfloat16"]

SUFFIX = "-bf16"


def in_bfloat16(backbone: Backbone) -> Backbone:
    """Returns the same network under a name and a fingerprint of its own, to be computed in bfloat16 and never else.

    The graph and its weights stay as they are; whoever runs it rounds them on the way.

    Raises:
        BackboneError: its numbers are not float32.
    """
    card = backbone.card
    if card.precision != "fp32":
        raise BackboneError(
            f"The backbone {card.name!r} is one of {card.precision}",
            expected="one of float32",
            remedy="take the one that it was made of",
        )
    return Backbone(
        onnx.load_from_string(backbone.to_bytes()), replace(card, name=card.name + SUFFIX, precision="bf16")
    )
