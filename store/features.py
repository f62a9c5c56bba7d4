"""Finds the spaces that a text like ``penultimate,stage3`` names, and reads their rows as one matrix."""

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError, UnknownNameError
from penult.store import Space, Store

__all__ = ["choose_spaces", "features_text", "gather", "precision_notes"]


def choose_spaces(store: Store, features: str, backbone: str | None = None) -> list[Space]:
    """Returns the spaces that ``features`` names, in its order: tap, backbone:tap or backbone:tap:view.

    Commas or plus signs separate the parts. ``backbone`` (a name, or the start of a fingerprint) applies to parts
    without a backbone.
    """
    parts = [part.strip() for part in re.split(r"[,+]", features) if part.strip()]
    if not parts:
        raise InputError(f"the features are {features!r}", expected="taps such as penultimate, or backbone:tap")
    known = store.spaces()
    chosen = [_one(known, part, backbone) for part in parts]
    ids = [space.spec.id for space in chosen]
    if len(set(ids)) < len(ids):
        raise InputError(f"the features {features!r} name a space twice", expected="each space once")
    return chosen


class _SpaceName(Protocol):
    @property
    def fingerprint(self) -> str: ...
    @property
    def tap(self) -> str: ...
    @property
    def view(self) -> str: ...
    @property
    def dtype(self) -> str: ...


def features_text(specs: Iterable[_SpaceName], *, digits: int | None = None) -> str:
    """Returns the words that make `choose_spaces` return exactly these spaces, with ``digits`` of each fingerprint."""
    return ",".join(
        ":".join([spec.fingerprint[:digits], spec.tap, *({spec.view} - {"identity"}), spec.dtype]) for spec in specs
    )


def gather(spaces: Sequence[Space], keys: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Reads the rows of ``keys`` in all ``spaces`` as one matrix (n, sum of widths), in the order of the keys."""
    _check_present(spaces, keys)
    if len(spaces) == 1:
        return spaces[0].gather(keys)
    rows = np.empty((len(keys), sum(space.spec.width for space in spaces)), np.float32)
    start = 0
    for space in spaces:
        rows[:, start : start + space.spec.width] = space.gather(keys)
        start += space.spec.width
    return rows


def precision_notes(spaces: Sequence[Space]) -> tuple[str, ...]:
    """Returns a note if the features were computed in another precision than a model file will use."""
    names = dict.fromkeys(space.spec.backbone for space in spaces if space.spec.card.get("precision") == "bf16")
    if not names:
        return ()
    return (f"Features of {', '.join(names)} are computed in bfloat16; a model file computes them in float32.",)


def _one(known: Sequence[Space], part: str, backbone: str | None) -> Space:
    words = part.split(":")
    if len(words) == 1 and backbone is not None:
        words = [backbone, *words]
    found = [space for space in known if _is_meant(space, words)]
    exact = [space for space in found if space.spec.name == ":".join(words)]
    found = exact or found
    names = sorted(space.spec.name for space in known)
    if not found:
        whose = f" of {backbone}" if backbone and ":" not in part else ""
        raise UnknownNameError(
            f"the store contains no features called {part!r}{whose}",
            expected=f"one of {', '.join(names)}" if names else "features, but the store has none yet",
            remedy="name one of these, or run 'penult extract' with that backbone and tap first",
        )
    if len(found) > 1:
        raise InputError(
            f"{part!r} matches {len(found)} spaces of the store: "
            + ", ".join(f"{space.spec.name} ({space.spec.fingerprint[:12]})" for space in found),
            expected="one",
            remedy="write backbone:tap, with the name of the backbone or the start of its fingerprint",
        )
    return found[0]


def _is_meant(space: Space, words: Sequence[str]) -> bool:
    spec = space.spec
    if len(words) == 1:
        return (spec.tap, spec.view) == (words[0], "identity")
    whose, tap, *rest = words
    is_named = spec.backbone == whose or (len(whose) >= 8 and spec.fingerprint.startswith(whose))
    view = rest[0] if rest and rest[0] not in {"float16", "float32"} else "identity"
    dtype = rest[-1] if rest and rest[-1] in {"float16", "float32"} else spec.dtype
    return is_named and (spec.tap, spec.view, spec.dtype) == (tap, view, dtype)


def _check_present(spaces: Sequence[Space], keys: NDArray[np.uint8]) -> None:
    for space in spaces:
        missing = len(space.missing(keys))
        if missing:
            raise InputError(
                f"{missing} of {len(keys)} images have no features in {space.spec.name}",
                expected="a row for each image of the dataset",
                remedy=f"penult extract IMAGES --backbone {space.spec.backbone} --taps {space.spec.tap}",
            )
