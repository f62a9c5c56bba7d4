"""Trains a head on a dataset and the features in a store, evaluates it and saves it: for classes, numbers and tags."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.heads.basis_cache import BasisCache
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.logistic.path import LogisticPath
from penult.pipeline.heads.numerics.basis import Basis
from penult.pipeline.heads.recipe import FittedRecipe, HeadOptions, Recipe
from penult.pipeline.heads.registry import check_head, default_head, head_kind, recipe_of
from penult.pipeline.heads.saved_heads import saved_head
from penult.pipeline.heads.training_matrix import read_matrix
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.reviewing.data_checks import data_warnings
from penult.pipeline.samples.rows import choose_rows
from penult.pipeline.training.options import TrainingRun, TrainOptions
from penult.pipeline.training.planning import check_choices, choose_plan
from penult.pipeline.training.recording import Trained, draft_card, head_name, metrics_of, record, require_writable
from penult.pipeline.training.testing import evaluate_estimator, tested_paths
from penult.pipeline.training.view_rows import AVERAGED, training_views, views_of
from penult.pipeline.words import shortlist
from penult.store import Space, Store, as_store
from penult.store.features import choose_spaces, gather, precision_notes

__all__ = ["train"]


def train(
    store: Store | str | Path,
    *,
    dataset: str,
    head: Any = None,
    features: str = "penultimate",
    backbone: str | None = None,
    name: str | None = None,
    options: TrainOptions | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Trains ``head`` on the dataset's training images, and tests it once on the split ``test`` (or else ``val``).

    ``options.target`` names the column to predict: classes by default, a number, or tags. ``head`` is a name,
    ``"auto"`` for the best of the quick heads, a scikit-learn estimator as ``module:Class``, or an unfitted estimator
    such as a ``Pipeline``. By default it is ``logistic`` for classes and tags, and ``ridge`` for a number. Every choice
    is made within the training images. The same call on the same dataset version and features gives the same head.
    It is saved as ``name``, by default the dataset's name and the head's. ``progress`` receives warnings about the
    data before the fit starts.
    """
    began = time.perf_counter()
    options, progress = options or TrainOptions(), progress or Silent()
    opened = as_store(store)
    require_writable(opened)
    table = opened.catalog.datasets.load(dataset, options.version)
    spaces = choose_spaces(opened, features, backbone)
    rows = choose_rows(table, options.target, options.task)
    target = rows.target
    head = default_head(target.task) if head is None else head
    check_head(head, target.task)
    check_choices(head, options, target.task)
    parts = [dataset, *(target.columns[:3] if target.task != "classification" else ()), head_kind(head)]
    saved_as = head_name(name, "-".join(parts))
    run = TrainingRun(opened, table, spaces, rows, options)
    warnings = (*rows.notes, *data_warnings(rows, spaces))
    for warning in warnings:
        progress.say(warning)
    plan = choose_plan(run, head, progress)
    fitted = _fit(run, plan.head)
    evaluation = evaluate_estimator(run, fitted.estimator, plan.min_confidence)
    seconds = time.perf_counter() - began
    card = replace(
        draft_card(saved_as, plan.head, run, fitted),
        n_test=evaluation.n,
        metrics=metrics_of(evaluation),
        seconds=round(seconds, 3),
        choice=None if plan.choice is None else plan.choice.to_json(),
        abstention=None if plan.abstention is None else plan.abstention.to_json(),
        notes=(*warnings, *plan.notes, *fitted.notes, *precision_notes(spaces)),
        averaged=options.views if options.average_views else (),
    )
    finished = Head(card, fitted.estimator)
    record(opened, finished)
    notes = (*card.notes, *evaluation.statements)
    return Trained(finished, evaluation, seconds, notes, tested_paths(rows, rows.classes), (*warnings, *plan.notes))


def _fit(run: TrainingRun, head: Any) -> FittedRecipe:
    store, spaces, rows, options = run.store, run.spaces, run.rows, run.options
    count = len(rows.train) * max(1, len(options.views))
    outputs = len(rows.classes) or 1
    params, start = dict(options.params), None
    if options.start_from is not None:
        start = _start(store, options.start_from, head, spaces, rows.classes)
        params.setdefault("C", start.C_)
    size = HeadOptions(count, outputs, run.width, options.seed, options.class_weight)
    recipe = recipe_of(head, size, params, rows.target.task)
    if options.views:
        views = training_views(views_of(store, spaces, options.views), rows.train, rows.y)
        fitted = recipe.fit(views.inputs, views.codes, groups=views.groups, seed=options.seed, basis=None, start=start)
        note = views.note if not options.average_views else f"{views.note} {AVERAGED}"
        return replace(fitted, notes=(note, *fitted.notes))
    inputs, notes = read_matrix(spaces, rows.train.keys, store.path, may_stay_on_disk=recipe.reads_blocks)
    basis = _kept_basis(store, spaces, rows.train.keys, inputs, recipe)
    fitted = recipe.fit(inputs, rows.y, groups=rows.train.groups, seed=options.seed, basis=basis, start=start)
    return replace(fitted, notes=(*notes, *fitted.notes))


def _kept_basis(
    store: Store, spaces: Sequence[Space], keys: NDArray[np.uint8], inputs: NDArray[np.floating], recipe: Recipe
) -> Basis | None:
    """Returns the basis of the training rows from the store's cache, where the estimator uses one and it pays."""
    if "basis" not in recipe.fit_arguments or len(inputs) <= inputs.shape[1]:
        return None
    bases = BasisCache(store.path, [space.spec.id for space in spaces])
    is_closed_form = "start" not in recipe.fit_arguments
    return bases.basis(keys, inputs, lambda keys: gather(spaces, keys), exact=is_closed_form)


def _start(store: Store, name: str, head: Any, spaces: Sequence[Space], classes: tuple[str, ...]) -> LogisticPath:
    """Returns the saved estimator that the fit starts from."""
    known = saved_head(store, name)
    known.check_spaces([space.spec for space in spaces])
    if not isinstance(known.estimator, LogisticPath) or head != "logistic":
        raise InputError(
            f"a {head} head cannot start from {name!r}, a {known.card.kind} head",
            expected="two logistic heads",
        )
    if known.card.classes != classes:
        raise InputError(
            f"the head {name!r} has the classes {shortlist(known.card.classes)}",
            expected=f"the classes of the dataset: {shortlist(classes)}",
            remedy="train without --start-from",
        )
    return known.estimator
