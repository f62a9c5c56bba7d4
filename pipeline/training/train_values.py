"""A column of numbers, or of tags, and the features in a store become a head that is evaluated, saved and listed."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.evaluation.values import NumberEvaluation, TagEvaluation
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.scoring import said_of
from penult.pipeline.heads.training_matrix import read_matrix
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.samples.targets import Target, target_of
from penult.pipeline.samples.value_rows import ValueRows, choose_value_rows
from penult.pipeline.training.options import Material, TrainOptions
from penult.pipeline.training.recording import drafted_card, head_name, record, require_writable
from penult.pipeline.training.train import basis_for
from penult.store import Store, as_store
from penult.store.catalog.datasets import Dataset
from penult.store.features import choose_spaces, gather

if TYPE_CHECKING:  # so that importing this module does not load scikit-learn
    from penult.pipeline.heads.recipe import Fitted

__all__ = ["TrainedValues", "train_values"]


@dataclass(frozen=True)
class TrainedValues:
    """A head for numbers or tags, what it is worth, and what should be said about how it came to be.

    ``told`` are those of the notes that were told before anything was fitted.
    """

    head: Head
    evaluation: NumberEvaluation | TagEvaluation
    seconds: float
    notes: tuple[str, ...]
    test_paths: tuple[str, ...] = field(repr=False)
    told: tuple[str, ...] = ()

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


def train_values(  # noqa: PLR0913 - the words of `train`, and the target
    store: Store | str | Path,
    *,
    dataset: str,
    target: str,
    head: Any = None,
    features: str = "penultimate",
    backbone: str | None = None,
    name: str | None = None,
    options: TrainOptions | None = None,
    progress: Progress | None = None,
) -> TrainedValues:
    """Trains ``head`` to tell the numbers of the column ``target``, or the tags of several columns or of one.

    What ``target`` may be says `target_of`; ``options.task`` decides where a column could be read in two ways. The
    head is ``ridge``, ``svr`` or ``lightgbm`` for a number and ``logistic`` or ``ridge`` for tags (the first by
    default), or any of scikit-learn's. Everything else is as in `train`.
    """
    from penult.pipeline.heads.registry import check_head, default_head, head_kind
    from penult.pipeline.reviewing.doubts import leaks_in

    began = time.perf_counter()
    options, progress = options or TrainOptions(), progress or Silent()
    opened = as_store(store)
    require_writable(opened)
    table = opened.catalog.datasets.load(dataset, options.version)
    wanted = _target_of(table, target, options)
    head = default_head(wanted.task) if head is None else head
    check_head(head, wanted.task)
    called = head_name(name, dataset, f"{'-'.join(wanted.columns[:3])}-{head_kind(head)}")
    material = Material(
        opened, table, choose_spaces(opened, features, backbone), choose_value_rows(table, wanted), options
    )
    rows = material.rows
    told = (*rows.notes, *leaks_in(rows, material.spaces))
    for doubt in told:
        progress.say(doubt)
    fitted = _fit(material, wanted, head)
    evaluation = _evaluate(wanted, rows, fitted.estimator, gather(material.spaces, rows.test.keys))
    seconds = time.perf_counter() - began
    card = replace(
        drafted_card(called, head, material, fitted),
        classes=wanted.names if wanted.task == "multilabel" else (),
        n_test=evaluation.n,
        metrics={name: value for name, value in evaluation.summary().items() if name != "n"},
        seconds=round(seconds, 3),
        task=wanted.task,
        target=wanted.columns,
        notes=(*told, *fitted.notes),
    )
    finished = Head(card, fitted.estimator)
    record(opened, finished)
    return TrainedValues(finished, evaluation, seconds, card.notes, rows.test.paths, told)


def _target_of(table: Dataset, target: str, options: TrainOptions) -> Target:
    """Reads what is to be told, and refuses classes and what is of classes alone."""
    wanted = target_of(table, target, options.task)
    if wanted.task == "classification":
        raise InputError(
            f"the column {target!r} holds classes", expected="numbers, or several columns", remedy="use train for it"
        )
    given = {
        "an accuracy of the answers": options.min_accuracy is not None,
        "a head to start from": options.start_from is not None,
        "a class weight": options.class_weight is not None and wanted.task == "regression",
        "views": bool(options.views),
    }
    for name in (name for name, is_given in given.items() if is_given):
        raise InputError(f"{name} cannot be given for {wanted.task}", expected="none", remedy="leave it out")
    return wanted


def _fit(material: Material[ValueRows], target: Target, head: Any) -> "Fitted":
    from penult.pipeline.heads.recipe import HeadOptions
    from penult.pipeline.heads.registry import recipe_of

    store, spaces, options, train = material.store, material.spaces, material.options, material.rows.train
    wanted: NDArray[Any] = train.values[:, 0] if target.task == "regression" else train.values.astype(np.int64)
    size = HeadOptions(len(train), train.values.shape[1], material.width, options.seed, options.class_weight)
    recipe = recipe_of(head, size, options.params, target.task)
    inputs, notes = read_matrix(spaces, train.keys, store.path, may_stay_on_disk=recipe.reads_blocks)
    basis = basis_for(store, spaces, train.keys, inputs, recipe)
    fitted = recipe.fit(inputs, wanted, groups=train.groups, seed=options.seed, basis=basis)
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
