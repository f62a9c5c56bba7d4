"""The result of training: the head with its card and evaluation, saved in the store and listed in the catalog."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from penult.errors import InputError, StoreWriteError
from penult.pipeline.evaluation.bounds import plain_bounds
from penult.pipeline.evaluation.evaluation import Evaluation
from penult.pipeline.evaluation.values import NumberEvaluation, TagEvaluation
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.head_card import HeadCard, SpaceRef
from penult.pipeline.heads.recipe import FittedRecipe
from penult.pipeline.heads.registry import head_kind
from penult.pipeline.training.options import TrainingRun
from penult.store import Store

__all__ = ["Trained", "draft_card", "head_name", "metrics_of", "record", "require_writable"]

# In bytes; file systems do not allow much longer folder names.
LONGEST_NAME = 200

LIBRARIES = ("penult", "scikit-learn", "numpy", "lightgbm", "skops")


@dataclass(frozen=True)
class Trained:
    """A trained head with its evaluation.

    ``evaluation`` is an `Evaluation` for classes, a `NumberEvaluation`, or a `TagEvaluation`. ``test_paths`` are the
    tested images, in the order of the evaluation's rows. ``reported`` are the notes that were
    sent to ``progress`` before the fit.
    """

    head: Head
    evaluation: Any
    seconds: float
    notes: tuple[str, ...]
    test_paths: tuple[str, ...] = field(repr=False)
    reported: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The head and its test results in one sentence."""
        card, evaluation = self.head.card, self.evaluation
        if isinstance(evaluation, Evaluation):
            accuracy = evaluation.accuracy
            return (
                f"{card.kind} head {card.name!r}: {accuracy.value:.1%} of {card.n_test:,} test images correct "
                f"(95 % interval {accuracy.low:.1%} to {accuracy.high:.1%}; always predicting "
                f"{evaluation.majority_class!r} gives {evaluation.majority_accuracy:.1%}), "
                f"trained on {card.n_train:,} images of {len(card.classes)} classes"
            )
        return (
            f"{card.kind} head {card.name!r} for {', '.join(card.target)}: {evaluation.sentence}; "
            f"{card.n_test:,} test images, trained on {card.n_train:,}"
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the result as plain data."""
        card, evaluation = self.head.card, self.evaluation
        return {
            "head": card.name,
            "kind": card.kind,
            "task": card.task,
            "target": list(card.target),
            "classes": list(card.classes),
            "n_train": card.n_train,
            "n_test": card.n_test,
            **{name: value for name, value in evaluation.summary().items() if name != "n"},
            **(plain_bounds(evaluation) if isinstance(evaluation, Evaluation) else {}),
            "params": dict(card.params),
            "choice": card.choice,
            "abstention": card.abstention,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def head_name(name: str | None, default: str) -> str:
    """Returns ``name`` or else ``default``, or raises where a folder cannot have this name."""
    chosen = name or default.replace(":", ".")
    is_file_name = chosen == Path(chosen).name and chosen.isprintable() and len(chosen.encode()) <= LONGEST_NAME
    if not is_file_name or chosen.startswith("."):
        raise InputError(
            f"a head cannot be named {chosen[:80]!r}",
            expected="a short name of printable characters without slashes, not starting with a dot",
        )
    return chosen


def require_writable(store: Store) -> None:
    """Raises StoreWriteError before any work where the head could not be saved."""
    catalog = store.catalog
    if catalog.readonly:
        raise StoreWriteError(
            f"A head cannot be saved in {store.address}: {'; '.join(catalog.notes)}",
            expected="a store that you may write to",
            remedy="ask its owner for write permission, or copy the store and train on the copy",
        )


def draft_card(name: str, head: Any, run: TrainingRun, fitted: FittedRecipe) -> HeadCard:
    """Returns the card of a fitted head without its test results and notes."""
    rows, options = run.rows, run.options
    return HeadCard(
        name=name,
        kind=head_kind(head),
        classes=rows.classes,
        spaces=tuple(SpaceRef.of(space.spec) for space in run.spaces),
        dataset=run.dataset.name,
        dataset_version=run.dataset.version,
        n_train=len(rows.train),
        n_test=0,
        trained_on=rows.trained_on,
        evaluated_on=rows.evaluated_on,
        params=_plain({**options.params, **fitted.params, "class_weight": options.class_weight}),
        metrics={},
        versions={library: version(library) for library in LIBRARIES},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        task=rows.target.task,
        target=rows.target.columns,
    )


def metrics_of(evaluation: Evaluation | NumberEvaluation | TagEvaluation) -> dict[str, Any]:
    """Returns the test results as the card stores them."""
    figures = evaluation.summary()
    if not isinstance(evaluation, Evaluation):
        return {name: value for name, value in figures.items() if name != "n"}
    accuracy = evaluation.accuracy
    return {
        "accuracy": {"value": accuracy.value, "low": accuracy.low, "high": accuracy.high},
        **{name: value for name, value in figures.items() if not name.startswith("accuracy")},
        **plain_bounds(evaluation),
    }


def record(store: Store, head: Head) -> None:
    """Saves a head in the store, and lists it in the catalog."""
    head.save(store.heads_path / head.card.name)
    store.catalog.heads.record(head.card.name, head.card.to_json())


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in params.items()
        if value is not None
    }
