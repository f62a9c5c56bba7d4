"""How a user writes a network and its weights: ``vgg16``, ``vgg16@IMAGENET1K_V1``, ``vgg16@/some/file.pth``."""

from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Self

from penult.errors import InputError, MissingFileError, UnknownNameError
from penult.exporters.sources.source_network import ExportRequest

__all__ = ["RANDOM", "Address", "file_facts", "refuse_unknown"]

RANDOM = "random"

_ENDINGS = {".bin", ".h5", ".hdf5", ".keras", ".pt", ".pth", ".safetensors"}


@dataclass(frozen=True)
class Address:
    """``weights`` is the name of weights, or None for the source's own; or they are in ``file``, or random."""

    name: str
    weights: str | None = None
    file: Path | None = None
    is_random: bool = False

    @classmethod
    def of(cls, rest: str, request: ExportRequest) -> Self:
        """Reads what follows the prefix of a source; weights may be said there or in the request, and only once.

        >>> Address.of("vgg16@IMAGENET1K_V1", ExportRequest())
        Address(name='vgg16', weights='IMAGENET1K_V1', file=None, is_random=False)
        """
        name, _, said = rest.partition("@")
        weights = said or request.weights
        if said and request.weights not in (None, said):
            raise InputError(f"The weights are said twice: {said!r} and {request.weights!r}", expected="one of the two")
        if weights is None or weights == RANDOM:
            return cls(name, is_random=weights == RANDOM)
        path = Path(weights).expanduser()
        if path.suffix.lower() not in _ENDINGS and not path.is_file():
            return cls(name, weights)
        if not path.is_file():
            raise MissingFileError(f"There is no weights file {path}", remedy=f"NAME@FILE, such as {name}@weights.pth")
        return cls(name, file=path)


def file_facts(path: Path) -> dict[str, Any]:
    """Gives what a card says of a weights file."""
    with path.open("rb") as stream:
        return {"file": path.name, "sha256": file_digest(stream, "sha256").hexdigest()}


def refuse_unknown(kind: str, name: str, names: list[str]) -> None:
    """Raises where ``name`` is none of ``names``, of which there may be hundreds: only close ones are said."""
    from difflib import get_close_matches

    if name not in names:
        close = get_close_matches(name, names, n=5)
        raise UnknownNameError(
            f"No {kind} is called {name!r}",
            expected=f"one of its {len(names)} names" if len(names) > 40 else f"one of {', '.join(sorted(names))}",
            remedy=f"did you mean {' or '.join(map(repr, close))}?" if close else "",
        )
