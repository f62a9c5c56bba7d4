"""The specification of a space: everything that two rows must share to be comparable."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal, Self, cast

import numpy as np

from penult.errors import InputError, StoreFormatError

FeatureType = Literal["float16", "float32"]

WIDTH_LIMIT = 1 << 22
FINGERPRINT = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True)
class SpaceSpec:
    """The specification of a space: the tap of a backbone, a view and a dtype.

    The fingerprint, tap, view, width and dtype identify it; the backbone's name and card only describe it.

    >>> spec = SpaceSpec("lite0", "0" * 64, "penultimate", 1280)
    >>> spec.id, spec.dtype, spec.view
    ('cf94694a5b84747e', 'float16', 'identity')
    """

    backbone: str = field(compare=False)
    fingerprint: str
    tap: str
    width: int
    view: str = "identity"
    dtype: FeatureType = "float16"
    card: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not FINGERPRINT.fullmatch(self.fingerprint):
            raise InputError(
                f"The fingerprint of a space is {self.fingerprint!r}", expected="64 hexadecimal digits in lower case"
            )
        for word, value in (("backbone", self.backbone), ("tap", self.tap), ("view", self.view)):
            if not NAME.fullmatch(value):
                raise InputError(f"The {word} of a space is {value!r}", expected="1 to 200 printable characters")
        if not 1 <= self.width <= WIDTH_LIMIT:
            raise InputError(f"The width of a space is {self.width}", expected=f"1 to {WIDTH_LIMIT}")
        if self.dtype not in {"float16", "float32"}:
            raise InputError(f"The dtype of a space is {self.dtype!r}", expected="float16 or float32")

    @property
    def identity(self) -> dict[str, str | int]:
        """The fields that identify the space."""
        return {
            "fingerprint": self.fingerprint,
            "tap": self.tap,
            "view": self.view,
            "width": self.width,
            "dtype": self.dtype,
        }

    @cached_property
    def id(self) -> str:
        """The name of the space's folder: 16 hexadecimal digits of the SHA-256 of its identity as canonical JSON."""
        canonical = json.dumps(self.identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return sha256(canonical.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The name of the space for people, such as ``lite0:penultimate``."""
        parts = [self.backbone, self.tap]
        if self.view != "identity":
            parts.append(self.view)
        if self.dtype != "float16":
            parts.append(self.dtype)
        return ":".join(parts)

    @cached_property
    def stored_type(self) -> "np.dtype[np.floating[Any]]":
        """The little-endian dtype on disk."""
        return np.dtype("<f2" if self.dtype == "float16" else "<f4")

    @cached_property
    def row_bytes(self) -> int:
        """The size of one row on disk, in bytes."""
        return self.width * self.stored_type.itemsize

    def to_json(self) -> dict[str, Any]:
        """Returns the specification as plain data."""
        return {"backbone": self.backbone, **self.identity, "card": dict(self.card)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Reads the output of ``to_json``; ignores unknown fields."""
        try:
            words = {word: data[word] for word in ("backbone", "fingerprint", "tap", "view", "dtype")}
            width, card = data["width"], data.get("card", {})
        except (KeyError, TypeError) as error:
            raise StoreFormatError(f"The description of a space lacks {error}") from error
        is_sound = all(isinstance(value, str) for value in words.values()) and type(width) is int
        if not is_sound or not isinstance(card, Mapping):
            raise StoreFormatError("The description of a space has a value of the wrong type")
        try:
            return cls(**words, width=width, card=cast("Mapping[str, Any]", card))
        except InputError as error:
            raise StoreFormatError(str(error)) from error
