"""Tests a saved head again on the images that it was tested on, so that a report can be made of it at any time."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.evaluation.evaluation import evaluate
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.scoring import mean_over_views
from penult.pipeline.samples.rows import choose_rows
from penult.pipeline.samples.targets import labelled
from penult.pipeline.training.train import Trained
from penult.pipeline.training.view_rows import views_of
from penult.store import Store
from penult.store.features import gather

__all__ = ["retest"]


def retest(head: Head, store: Store) -> Trained:
    """Returns what `train` returned of this head, from the dataset version and the features that it was trained on."""
    card = head.card
    head.require_classes("a report")
    dataset = store.catalog.datasets.load(card.dataset, card.dataset_version)
    rows = choose_rows(labelled(dataset, card.target[0], "classification"))
    chances = _chances(head, store, rows.test.keys)
    evaluation = evaluate(rows.test.keys, rows.test.labels.tolist(), chances, card.classes)
    evaluation = replace(evaluation, min_confidence=card.min_confidence)
    known = np.isin(rows.test.labels.astype(str), card.classes)
    paths = tuple(path for path, kept in zip(rows.test.paths, known, strict=True) if kept)
    return Trained(head, evaluation, card.seconds, (*(card.notes or rows.notes), *evaluation.statements), paths)


def _chances(head: Head, store: Store, keys: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Returns what the head says of the images as they are, or the mean over the views that it was tested on."""
    if not head.card.averaged:
        return head.predict_proba(head.gather(store, keys))
    held = {space.spec.id: space for space in store.spaces()}
    spaces = [held[ref.id] for ref in head.card.spaces]
    looks = views_of(store, spaces, head.card.averaged)
    return mean_over_views([head.predict_proba(gather(look, keys)) for look in looks])
