"""A dataset and the features in a store become a head that is evaluated, saved and listed in the catalog."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.evaluation.bounds import plain_bounds
from penult.pipeline.evaluation.evaluation import Evaluation, evaluate
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.saved_heads import saved_head
from penult.pipeline.heads.scoring import mean_over_views, said_of
from penult.pipeline.heads.training_matrix import read_matrix
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.samples.rows import TrainingRows, choose_rows
from penult.pipeline.samples.targets import labelled
from penult.pipeline.training.options import Material, TrainOptions
from penult.pipeline.training.planning import check_choices, choose_plan
from penult.pipeline.training.recording import drafted_card, head_name, record, require_writable
from penult.pipeline.training.view_rows import AVERAGED, training_views, views_of
from penult.pipeline.words import shortlist
from penult.store import Space, Store, as_store
from penult.store.features import choose_spaces, gather, precision_notes

if TYPE_CHECKING:  # so that importing this module does not load scikit-learn
    from penult.pipeline.heads.logistic.path import LogisticPath
    from penult.pipeline.heads.numerics.basis import Basis
    from penult.pipeline.heads.recipe import Fitted, Recipe

__all__ = ["Trained", "basis_for", "train"]


@dataclass(frozen=True)
class Trained:
    """A head, what it is worth, and what should be said about how it came to be.

    ``test_paths`` are the evaluated images, in the order of the evaluation's rows. ``told`` are those of the notes that
    were told before anything was fitted.
    """

    head: Head
    evaluation: Evaluation
    seconds: float
    notes: tuple[str, ...]
    test_paths: tuple[str, ...]
    told: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the result as plain data."""
        card = self.head.card
        return {
            "head": card.name,
            "kind": card.kind,
            "classes": list(card.classes),
            "n_train": card.n_train,
            "n_test": card.n_test,
            **{name: value for name, value in self.evaluation.summary().items() if name != "n"},
            **plain_bounds(self.evaluation),
            "params": dict(card.params),
            "choice": card.choice,
            "abstention": card.abstention,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def train(
    store: Store | str | Path,
    *,
    dataset: str,
    head: Any = "logistic",
    features: str = "penultimate",
    backbone: str | None = None,
    name: str | None = None,
    options: TrainOptions | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Trains ``head`` on the dataset's training splits, and tests it once on the split ``test`` (``val`` without one).

    ``head`` is a name, ``auto`` for the best of the quick ones, any scikit-learn classifier as ``module:Class``, or one
    itself such as an unfitted ``Pipeline``. Everything that has to be chosen is chosen within the training images. The
    same call on the same dataset version and features gives the same head. It is saved under ``name``, by default the
    dataset's and the head's. What casts doubt on the data is told to ``progress`` before anything is fitted.
    """
    from penult.pipeline.heads.registry import check_head, head_kind
    from penult.pipeline.reviewing.doubts import doubts_about

    began = time.perf_counter()
    options, progress = options or TrainOptions(), progress or Silent()
    opened = as_store(store)
    require_writable(opened)
    check_head(head)
    check_choices(head, options)
    called = head_name(name, dataset, head_kind(head))
    table = labelled(opened.catalog.datasets.load(dataset, options.version), options.target, options.task)
    spaces = choose_spaces(opened, features, backbone)
    rows = choose_rows(table)
    material = Material(opened, table, spaces, rows, options)
    told = (*rows.notes, *doubts_about(rows, spaces))
    for doubt in told:
        progress.say(doubt)
    plan = choose_plan(material, head, progress)
    fitted = _fit(material, plan.head)
    evaluation = replace(_tested(material, fitted), min_confidence=plan.min_confidence)
    seconds = time.perf_counter() - began
    card = replace(
        drafted_card(called, plan.head, material, fitted),
        classes=rows.classes,
        n_test=evaluation.n,
        metrics=_metrics(evaluation),
        seconds=round(seconds, 3),
        target=(options.target,),
        choice=None if plan.choice is None else plan.choice.to_json(),
        abstention=None if plan.abstention is None else plan.abstention.to_json(),
        notes=(*told, *plan.notes, *fitted.notes, *precision_notes(spaces)),
        averaged=options.views if options.average_views else (),
    )
    finished = Head(card, fitted.estimator)
    record(opened, finished)
    notes = (*card.notes, *evaluation.statements)
    return Trained(finished, evaluation, seconds, notes, _tested_paths(rows), (*told, *plan.notes))


def _tested(material: Material[TrainingRows], fitted: "Fitted") -> Evaluation:
    """Asks the head of the test images, once."""
    store, spaces, rows, options = material.store, material.spaces, material.rows, material.options
    looks = views_of(store, spaces, options.views) if options.average_views else [spaces]
    chances = mean_over_views([said_of(fitted.estimator.predict_proba, gather(look, rows.test.keys)) for look in looks])
    return evaluate(rows.test.keys, rows.test.labels.tolist(), chances, rows.classes)


def _tested_paths(rows: TrainingRows) -> tuple[str, ...]:
    known = np.isin(rows.test.labels.astype(str), rows.classes)
    return tuple(path for path, kept in zip(rows.test.paths, known, strict=True) if kept)


def _fit(material: Material[TrainingRows], head: Any) -> "Fitted":
    from penult.pipeline.heads.recipe import HeadOptions
    from penult.pipeline.heads.registry import recipe_of

    store, spaces, rows, options = material.store, material.spaces, material.rows, material.options
    codes = np.searchsorted(np.array(rows.classes), rows.train.labels.astype(str))
    count = len(codes) * max(1, len(options.views))
    task = HeadOptions(count, len(rows.classes), material.width, options.seed, options.class_weight)
    params, start = dict(options.params), None
    if options.start_from is not None:
        start = _start(store, options.start_from, head, spaces, rows.classes)
        params.setdefault("C", start.C_)
    recipe = recipe_of(head, task, params)
    if options.views:
        seen = training_views(views_of(store, spaces, options.views), rows.train, codes)
        fitted = recipe.fit(seen.inputs, seen.codes, groups=seen.groups, seed=options.seed, basis=None, start=start)
        told = seen.note if not options.average_views else f"{seen.note} {AVERAGED}"
        return replace(fitted, notes=(told, *fitted.notes))
    inputs, notes = read_matrix(spaces, rows.train.keys, store.path, may_stay_on_disk=recipe.reads_blocks)
    basis = basis_for(store, spaces, rows.train.keys, inputs, recipe)
    fitted = recipe.fit(inputs, codes, groups=rows.train.groups, seed=options.seed, basis=basis, start=start)
    return replace(fitted, notes=(*notes, *fitted.notes))


def basis_for(
    store: Store, spaces: Sequence[Space], keys: NDArray[np.uint8], inputs: NDArray[np.floating], recipe: "Recipe"
) -> "Basis | None":
    """Returns the kept basis of the training rows, for estimators that take one and rows enough to be worth it."""
    if "basis" not in recipe.takes or len(inputs) <= inputs.shape[1]:
        return None
    from penult.pipeline.heads.kept_basis import StatisticsShelf

    shelf = StatisticsShelf(store.path, [space.spec.id for space in spaces])
    is_closed = "start" not in recipe.takes
    return shelf.basis(keys, inputs, lambda keys: gather(spaces, keys), exact=is_closed)


def _start(store: Store, name: str, head: Any, spaces: Sequence[Space], classes: tuple[str, ...]) -> "LogisticPath":
    from penult.pipeline.heads.logistic.path import LogisticPath

    known = saved_head(store, name)
    known.check_spaces([space.spec for space in spaces])
    if not isinstance(known.estimator, LogisticPath) or head != "logistic":
        raise InputError(
            f"a {head} head cannot start from {name!r}, a {known.card.kind} head", expected="two logistic heads"
        )
    if known.card.classes != classes:
        raise InputError(
            f"the head {name!r} knows {shortlist(known.card.classes)}",
            expected=f"the classes of the dataset: {shortlist(classes)}",
            remedy="train without a head to start from",
        )
    return known.estimator


def _metrics(evaluation: Evaluation) -> dict[str, Any]:
    accuracy = evaluation.accuracy
    figures = evaluation.summary()
    return {
        "accuracy": {"value": accuracy.value, "low": accuracy.low, "high": accuracy.high},
        **{name: value for name, value in figures.items() if not name.startswith("accuracy")},
        **plain_bounds(evaluation),
    }
