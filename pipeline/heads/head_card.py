"""The card of a head, as plain data: classes, spaces, training data and metrics."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from hashlib import sha256
from typing import Any, Self

from penult.errors import HeadError
from penult.pipeline.heads.names import Task
from penult.store.spec import SpaceSpec

__all__ = ["FORMAT", "MAJOR", "MINOR", "HeadCard", "SpaceRef", "check_digest", "with_digest"]

FORMAT = "penult-head"
MAJOR, MINOR = 1, 2
DIGEST = "sha256"


@dataclass(frozen=True)
class SpaceRef:
    """A space whose rows a head takes; a head of several spaces takes their rows concatenated in the card's order."""

    backbone: str
    fingerprint: str
    tap: str
    view: str
    width: int
    dtype: str
    id: str

    @classmethod
    def of(cls, spec: SpaceSpec) -> Self:
        """Returns the reference to a space of a store."""
        return cls(spec.backbone, spec.fingerprint, spec.tap, spec.view, spec.width, spec.dtype, spec.id)

    @property
    def name(self) -> str:
        """A readable name with the start of the fingerprint."""
        view = "" if self.view == "identity" else f":{self.view}"
        return f"{self.backbone}@{self.fingerprint[:12]}:{self.tap}{view} ({self.dtype})"


@dataclass(frozen=True)
class HeadCard:
    """The metadata of a fitted head.

    ``kind`` is its name in the registry. ``metrics`` belong to the evaluation split: each is a number or None, accuracy
    has an interval. ``target`` are the dataset columns that it predicts. A head for a number has no classes; the
    classes of a head for tags are the tags. ``choice`` lists the kinds that were compared, if ``auto`` chose the kind.
    ``abstention`` says how ``min_confidence`` was chosen. ``averaged`` are the views that the test averaged over.
    ``notes`` are the notes of training.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    spaces: tuple[SpaceRef, ...]
    dataset: str
    dataset_version: int
    n_train: int
    n_test: int
    trained_on: tuple[str, ...]
    evaluated_on: str
    params: Mapping[str, Any]
    metrics: Mapping[str, Any]
    versions: Mapping[str, str]
    created: str
    seconds: float
    task: Task = "classification"
    target: tuple[str, ...] = ("label",)
    choice: Mapping[str, Any] | None = None
    abstention: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    averaged: tuple[str, ...] = ()

    @property
    def min_confidence(self) -> float:
        """The probability below which an image is labelled "unsure"; 0 if none was chosen."""
        return float((self.abstention or {}).get("min_confidence", 0.0))

    @property
    def width(self) -> int:
        """The number of features that the head takes."""
        return sum(space.width for space in self.spaces)

    def to_json(self) -> dict[str, Any]:
        """Returns the card as plain JSON values, with its format and version."""
        return {
            "format": FORMAT,
            "version": {"major": MAJOR, "minor": MINOR},
            **{entry.name: getattr(self, entry.name) for entry in fields(self)},
            "classes": list(self.classes),
            "spaces": [asdict(space) for space in self.spaces],
            "trained_on": list(self.trained_on),
            "target": list(self.target),
            "notes": list(self.notes),
            "averaged": list(self.averaged),
            "params": dict(self.params),
            "metrics": dict(self.metrics),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, origin: str) -> Self:
        """Reads what ``to_json`` wrote; unknown fields are ignored."""
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise HeadError(f"{origin} is not a head", expected=f"a card of the format {FORMAT!r}")
        try:
            major = data["version"]["major"]
            if major != MAJOR:
                raise HeadError(
                    f"{origin} is a head of version {major}",
                    expected=f"version {MAJOR}",
                    remedy="upgrade penult" if isinstance(major, int) and major > MAJOR else "train it again",
                )
            # Cards of version 1.0 have no target: all of their heads predict the label.
            values = {
                entry.name: data[entry.name] for entry in fields(cls) if entry.name in data or entry.default is MISSING
            }
            values["spaces"] = tuple(SpaceRef(**space) for space in data["spaces"])
        except (KeyError, TypeError) as error:
            raise HeadError(
                f"the card of {origin} is damaged: {error!r}", remedy="train the head again, or copy its folder again"
            ) from error
        for name in {"classes", "trained_on", "target", "notes", "averaged"} & values.keys():
            values[name] = tuple(values[name])
        return cls(**values)


def with_digest(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a card's file with its SHA-256, which reveals any later change."""
    return {**content, DIGEST: _digest(content)}


def check_digest(content: Mapping[str, Any], *, origin: str) -> None:
    """Raises HeadError if the content differs from its SHA-256; version 1.0 had none."""
    rest = {name: value for name, value in content.items() if name != DIGEST}
    if content["version"].get("minor") != 0 and content.get(DIGEST) != _digest(rest):
        raise HeadError(
            f"the card of {origin} is damaged: its content does not match its SHA-256",
            remedy="train the head again, or copy its folder again",
        )


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
