"""How a user writes a tap: ``stage3``, ``stage3:max``, ``TENSOR``, ``NAME=TENSOR:gem``."""

from dataclasses import dataclass
from typing import cast, get_args

from penult.errors import InputError
from penult.exporters.card import Pooling

__all__ = ["TapRequest", "parse_taps"]


@dataclass(frozen=True)
class TapRequest:
    """``tensor`` is a tap that is found in the network, or any value of its graph."""

    tensor: str
    name: str | None = None
    pooling: Pooling | None = None


def parse_taps(text: str) -> tuple[TapRequest, ...]:
    """Reads a list with commas.

    >>> parse_taps("penultimate,last=layer4/out:0:gem")[1]
    TapRequest(tensor='layer4/out:0', name='last', pooling='gem')
    """
    requests = []
    for part in text.split(","):
        head, _, tail = part.strip().rpartition(":")
        pooled = bool(head) and tail in get_args(Pooling)
        name, equals, tensor = (head if pooled else part.strip()).partition("=")
        if not equals:
            name, tensor = "", name
        if not tensor:
            raise InputError(
                f"The taps are {text!r}",
                expected="names with commas between, each TENSOR, NAME=TENSOR or NAME=TENSOR:max",
            )
        requests.append(TapRequest(tensor, name or None, cast("Pooling", tail) if pooled else None))
    return tuple(requests)
