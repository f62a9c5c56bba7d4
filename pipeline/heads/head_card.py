"""What a head says about itself, as plain data: its classes and spaces, what it was trained on, how well it does."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from hashlib import sha256
from typing import Any, Self

from penult.errors import HeadError
from penult.pipeline.heads.names import Task
from penult.store.spec import SpaceSpec

__all__ = ["FORMAT", "MAJOR", "MINOR", "HeadCard", "SpaceRef", "check_seal", "sealed"]

FORMAT = "penult-head"
MAJOR, MINOR = 1, 2
SEAL = "sha256"


@dataclass(frozen=True)
class SpaceRef:
    """The space whose rows a head takes; a head of several takes their rows side by side, in the card's order."""

    backbone: str
    fingerprint: str
    tap: str
    view: str
    width: int
    dtype: str
    id: str

    @classmethod
    def of(cls, spec: SpaceSpec) -> Self:
        """Refers to a space of a store."""
        return cls(spec.backbone, spec.fingerprint, spec.tap, spec.view, spec.width, spec.dtype, spec.id)

    @property
    def name(self) -> str:
        """The space for people to read, with the start of its fingerprint."""
        view = "" if self.view == "identity" else f":{self.view}"
        return f"{self.backbone}@{self.fingerprint[:12]}:{self.tap}{view} ({self.dtype})"


@dataclass(frozen=True)
class HeadCard:
    """Everything that is known of a fitted head but its numbers.

    ``kind`` is the name under which the registry knows it; ``metrics`` are those of the evaluation split, each a
    number or None, accuracy with its interval. ``task`` says what it tells, and ``target`` of which columns of the
    dataset; a head for a number has no classes, those of one for tags are the tags. ``choice`` tells which kinds were
    tried where the kind was chosen, and ``abstention`` how ``min_confidence`` was, where it was. ``averaged`` are the
    views over whose mean it was tested, where that was asked for. ``notes`` say what was noted in training.
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
        """The probability below which the best class of an image is no answer; 0 where none was chosen."""
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
        """Reads what ``to_json`` wrote; words that this version does not know are left aside."""
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise HeadError(f"{origin} is no head", expected=f"a card of the format {FORMAT!r}")
        try:
            major = data["version"]["major"]
            if major != MAJOR:
                raise HeadError(
                    f"{origin} is a head of version {major}",
                    expected=f"version {MAJOR}",
                    remedy="upgrade penult" if isinstance(major, int) and major > MAJOR else "train it again",
                )
            # Cards of version 1.0 know no target: all of their heads tell the label.
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


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what stands in a card's file with its own SHA-256, so that a changed letter does not pass for a class."""
    return {**content, SEAL: _digest(content)}


def check_seal(content: Mapping[str, Any], *, origin: str) -> None:
    """Raises HeadError unless the content is what was sealed; version 1.0 had no seals."""
    rest = {name: value for name, value in content.items() if name != SEAL}
    if content["version"].get("minor") != 0 and content.get(SEAL) != _digest(rest):
        raise HeadError(
            f"the card of {origin} is damaged: its SHA-256 is not the one that it bears",
            remedy="train the head again, or copy its folder again",
        )


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
