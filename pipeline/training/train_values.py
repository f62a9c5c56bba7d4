"""A column of numbers, or of tags, and the features in a store become a head that is evaluated, saved and listed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.heads.chances import said_of
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.head_card import HeadCard, SpaceRef
from penult.pipeline.training.feature_spaces import choose_spaces, gather
from penult.pipeline.training.matrices import read_matrix
from penult.pipeline.training.targets import Target, target_of
from penult.pipeline.training.train import LIBRARIES, TrainOptions, basis_for, head_name, plain_params
from penult.pipeline.training.value_evaluation import NumberEvaluation, TagEvaluation
from penult.pipeline.training.value_rows import ValueRows, choose_value_rows
from penult.store import Space, Store, open_store

if TYPE_CHECKING:  # so that importing this module does not load scikit-learn
    from penult.pipeline.heads.recipe import Fitted

__all__ = ["TrainedValues", "train_values"]


@dataclass(frozen=True)
class TrainedValues:
    """A head for numbers or tags, what it is worth, and what should be said about how it came to be."""

    head: Head
    evaluation: NumberEvaluation | TagEvaluation
    seconds: float
    notes: tuple[str, ...]
    test_paths: tuple[str, ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Returns the result as plain data."""
        card = self.head.card
        return {
            "head": card.name,
            "kind": card.kind,
            "task": card.task,
            "target": list(card.target),
            "classes": list(card.classes),
            "n_train": card.n_train,
            "n_test": card.n_test,
            **{name: value for name, value in self.evaluation.summary().items() if name != "n"},
            "params": dict(card.params),
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def train_values(
    store: Store | str | Path,
    *,
    dataset: str,
    target: str,
    head: Any = None,
    features: str = "penultimate",
    backbone: str | None = None,
    name: str | None = None,
    options: TrainOptions | None = None,
) -> TrainedValues:
    """Trains ``head`` to tell the numbers of the column ``target``, or the tags of several columns or of one.

    What ``target`` may be says `target_of`; ``options.task`` decides where a column could be read in two ways. The
    head is ``ridge``, ``svr`` or ``lightgbm`` for a number and ``logistic`` or ``ridge`` for tags (the first by
    default), or any of scikit-learn's. Everything else is as in `train`.
    """
    from penult.pipeline.heads.registry import check_head, default_head, head_kind

    began = time.perf_counter()
    options = options or TrainOptions()
    opened = store if isinstance(store, Store) else open_store(store, create=False)
    table = opened.catalog.datasets.load(dataset, options.version)
    wanted = target_of(table, target, options.task)
    if wanted.task == "classification":
        raise InputError(
            f"the column {target!r} holds classes", expected="numbers, or several columns", remedy="use train for it"
        )
    head = default_head(wanted.task) if head is None else head
    check_head(head, wanted.task)
    _check_options(wanted, options)
    kind = head_kind(head)
    called = head_name(name, dataset, f"{'-'.join(wanted.columns[:3])}-{kind}")
    spaces = choose_spaces(opened, features, backbone)
    rows = choose_value_rows(table, wanted)
    fitted = _fit(opened, head, wanted, rows, spaces, options)
    evaluation = _evaluate(wanted, rows, fitted.estimator, gather(spaces, rows.test.keys))
    seconds = time.perf_counter() - began
    card = HeadCard(
        name=called,
        kind=kind,
        classes=wanted.names if wanted.task == "multilabel" else (),
        spaces=tuple(SpaceRef.of(space.spec) for space in spaces),
        dataset=table.name,
        dataset_version=table.version,
        n_train=len(rows.train),
        n_test=evaluation.n,
        trained_on=rows.trained_on,
        evaluated_on=rows.evaluated_on,
        params=plain_params({**options.params, **fitted.params, "class_weight": options.class_weight}),
        metrics={name: value for name, value in evaluation.summary().items() if name != "n"},
        versions={library: version(library) for library in LIBRARIES},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        task=wanted.task,
        target=wanted.columns,
    )
    finished = Head(card, fitted.estimator)
    finished.save(opened.heads_path / called)
    opened.catalog.heads.record(called, card.to_json())
    return TrainedValues(finished, evaluation, seconds, (*rows.notes, *fitted.notes), rows.test.paths)


def _check_options(target: Target, options: TrainOptions) -> None:
    """Refuses what is of classes alone."""
    given = {
        "an accuracy of the answers": options.min_accuracy is not None,
        "a head to start from": options.start_from is not None,
        "a class weight": options.class_weight is not None and target.task == "regression",
        "views": bool(options.views),
    }
    for name in (name for name, is_given in given.items() if is_given):
        raise InputError(f"{name} cannot be given for {target.task}", expected="none", remedy="leave it out")


def _fit(
    store: Store, head: Any, target: Target, rows: ValueRows, spaces: Sequence[Space], options: TrainOptions
) -> "Fitted":
    from penult.pipeline.heads.recipe import HeadOptions
    from penult.pipeline.heads.registry import recipe_of

    values, width = rows.train.values, sum(space.spec.width for space in spaces)
    wanted: NDArray[Any] = values[:, 0] if target.task == "regression" else values.astype(np.int64)
    size = HeadOptions(len(values), values.shape[1], width, options.seed, options.class_weight)
    recipe = recipe_of(head, size, options.params, target.task)
    inputs, notes = read_matrix(spaces, rows.train.keys, store.path, may_stay_on_disk=recipe.reads_blocks)
    basis = basis_for(store, spaces, rows.train.keys, inputs, recipe)
    fitted = recipe.fit(inputs, wanted, groups=rows.train.groups, seed=options.seed, basis=basis)
    return replace(fitted, notes=(*notes, *fitted.notes))


def _evaluate(
    target: Target, rows: ValueRows, estimator: Any, features: NDArray[np.float32]
) -> NumberEvaluation | TagEvaluation:
    test = rows.test
    if target.task == "multilabel":
        chances = said_of(estimator.predict_proba, features)
        return TagEvaluation(target.names, test.keys, test.values > 0, chances)
    predicted = said_of(estimator.predict, features)
    return NumberEvaluation(
        target.names[0], test.keys, test.values[:, 0], predicted, float(rows.train.values[:, 0].mean())
    )
