"""Predicts the test images of a head and evaluates the predictions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.evaluation.evaluation import Evaluation, evaluate
from penult.pipeline.evaluation.values import NumberEvaluation, TagEvaluation
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.scoring import mean_over_views, predict_in_blocks
from penult.pipeline.samples.rows import TrainingRows, choose_rows
from penult.pipeline.training.options import TrainingRun
from penult.pipeline.training.recording import Trained
from penult.pipeline.training.view_rows import views_of
from penult.store import Space, Store
from penult.store.features import gather

__all__ = ["evaluate_estimator", "evaluate_rows", "retest", "tested_paths"]


def evaluate_estimator(
    run: TrainingRun, estimator: Any, min_confidence: float = 0.0
) -> Evaluation | NumberEvaluation | TagEvaluation:
    """Returns the evaluation of a fitted estimator on the test images of a run."""
    predict = estimator.predict if run.rows.target.task == "regression" else estimator.predict_proba
    views = run.options.views if run.options.average_views else ()
    outputs = [
        predict_in_blocks(predict, gather(spaces, run.rows.test.keys))
        for spaces in _shown(run.store, run.spaces, views)
    ]
    return evaluate_rows(run.rows, mean_over_views(outputs), run.rows.classes, min_confidence)


def evaluate_rows(
    rows: TrainingRows, outputs: NDArray[np.floating], classes: Sequence[str], min_confidence: float = 0.0
) -> Evaluation | NumberEvaluation | TagEvaluation:
    """Compares ``outputs`` with the labels of the test images: probabilities (n, C), or numbers (n)."""
    test, target = rows.test, rows.target
    if target.task == "classification":
        evaluation = evaluate(test.keys, test.labels.tolist(), outputs, classes)
        return replace(evaluation, min_confidence=min_confidence)
    if target.task == "multilabel":
        return TagEvaluation(target.names, test.keys, test.labels > 0, np.asarray(outputs, np.float64))
    mean = float(rows.train.labels[:, 0].mean())
    return NumberEvaluation(target.names[0], test.keys, test.labels[:, 0], np.asarray(outputs, np.float64), mean)


def tested_paths(rows: TrainingRows, classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the paths of the evaluated images: those whose class was trained on."""
    if rows.target.task != "classification":
        return rows.test.paths
    is_known = np.isin(rows.test.labels.astype(str), classes)
    return tuple(path for path, kept in zip(rows.test.paths, is_known, strict=True) if kept)


def retest(head: Head, store: Store) -> Trained:
    """Returns what `train` returned for a saved head, from its dataset version and its features."""
    card = head.card
    head.require_classes("a report")
    dataset = store.catalog.datasets.load(card.dataset, card.dataset_version)
    rows = choose_rows(dataset, card.target[0], "classification")
    held = {space.spec.id: space for space in store.spaces()}
    if card.averaged:
        shown = _shown(store, [held[ref.id] for ref in card.spaces], card.averaged)
        outputs = [head.predict_proba(gather(spaces, rows.test.keys)) for spaces in shown]
    else:
        outputs = [head.predict_proba(head.gather(store, rows.test.keys))]
    evaluation = evaluate_rows(rows, mean_over_views(outputs), card.classes, card.min_confidence)
    notes = (*(card.notes or rows.notes), *evaluation.statements)
    return Trained(head, evaluation, card.seconds, notes, tested_paths(rows, card.classes))


def _shown(store: Store, spaces: Sequence[Space], views: Sequence[str]) -> Sequence[Sequence[Space]]:
    return views_of(store, spaces, views) if views else [spaces]
