"""Fills the report of a head from its store."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from penult.exporters import Backbone
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.saved_heads import backbone_of, saved_head
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.report import (
    Baseline,
    Before,
    Embedding,
    FailedImage,
    GroupImage,
    ImageGroup,
    Insights,
    ReportContent,
    project,
    write_report,
)
from penult.pipeline.report.insights import FINGERPRINT_DIGITS
from penult.pipeline.report.network_baseline import network_baseline, original_guesses
from penult.pipeline.samples.labelling import Labelling
from penult.pipeline.samples.rows import TrainingRows, choose_rows, pick_evenly
from penult.pipeline.samples.targets import LABEL, labelled
from penult.pipeline.training.recording import Trained
from penult.pipeline.training.testing import retest
from penult.store import Store, as_store
from penult.store.catalog.datasets import Dataset
from penult.store.features import features_text
from penult.store.tables.leaks import Conflict, find_contradictions, find_leaks

__all__ = ["report", "report_of", "with_insights"]

# The largest number of images on the map, and of images with the predictions of the original network.
MAP_IMAGES = 2_000
BEFORE_IMAGES = 6


def report(
    head: str | Head,
    store: str | Path | Store,
    path: str | Path = "report.html",
    *,
    map_by: str = "pca",
    insights: Insights | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes the report of a saved head as one HTML file, and returns its path.

    The head is tested again on its test images, from stored features; images are opened only for their thumbnails.
    ``map_by`` is "pca", or "umap" with the extra of that name. The report also shows ``insights``.
    """
    progress = progress or Silent()
    opened = as_store(store)
    found = head if isinstance(head, Head) else saved_head(opened, head)
    with progress.task("Report", total=1, unit="file") as task:
        trained = retest(found, opened)
        content = report_of(trained, opened, backbone_of(opened, found), map_by=map_by)
        write_report(path, with_insights(content, insights or Insights()))
        task.advance()
    return Path(path)


def with_insights(content: ReportContent, insights: Insights) -> ReportContent:
    """Returns the report with these insights; leaks that it already shows are kept."""
    return replace(content, insights=replace(insights, leaks=[*content.insights.leaks, *insights.leaks]))


def report_of(
    trained: Trained,
    store: Store,
    backbone: Backbone,
    *,
    labelling: Labelling | None = None,
    receipt: dict[str, Any] | None = None,
    map_by: str = "pca",
) -> ReportContent:
    """Returns the report of a head that was just tested. ``labelling`` and ``receipt`` come from `fit`."""
    card = trained.head.card
    dataset = labelled(
        store.catalog.datasets.load(card.dataset, card.dataset_version), card.target[0], "classification"
    )
    rows = choose_rows(dataset)
    return ReportContent(
        title=card.dataset,
        evaluation=trained.evaluation,
        paths=trained.test_paths,
        head=card.to_json(),
        command=_command(trained, store),
        baselines=_baselines(backbone, store, rows),
        before=_before(backbone, trained.test_paths),
        receipt=receipt or {},
        backbone=_origin(backbone),
        notes=[*_notes(labelling), *trained.notes],
        failed=_failures(store, dataset.paths),
        conflicts=_conflicts(dataset, labelling),
        embedding=_map(trained, store, map_by),
        insights=Insights(leaks=_leaks(dataset, labelling)),
    )


def _command(trained: Trained, store: Store) -> str:
    """Returns the command that trains the head again."""
    card = trained.head.card
    features = features_text(card.spaces, digits=FINGERPRINT_DIGITS)
    words = ["penult", "train", card.dataset, "--head", card.kind, "--features", features, "--name", card.name]
    if card.target != (LABEL,):
        words += ["--target", card.target[0]]
    for name, value in card.params.items():
        if name == "class_weight":
            words += ["--class-weight", str(value)]
        elif not name.endswith("_"):  # a trailing underscore marks parameters that the estimator chooses itself
            words += ["--param", f"{name}={value}"]
    if card.abstention is not None:
        words += ["--min-accuracy", str(card.abstention["wanted"])]
    return shlex.join([*words, "--store", store.short_address])


def _baselines(backbone: Backbone, store: Store, rows: TrainingRows) -> list[Baseline]:
    found = network_baseline(backbone, store, rows)
    if found is None:
        return []
    part = "" if found.tested == len(rows.test) else f", on {found.tested:,} of the images"
    note = (
        f"Each of the {found.own_classes:,} original classes of {backbone.name} is mapped to the label most common "
        "among the training images predicted as that class."
    )
    return [Baseline(f"{backbone.name} without training, its classes mapped to labels{part}", found.accuracy, note)]


def _before(backbone: Backbone, paths: Sequence[str]) -> list[Before]:
    shown = pick_evenly(paths, BEFORE_IMAGES)
    guesses = original_guesses(backbone, shown) if backbone.card.classes else []
    return [
        Before(path, [(guess.name, guess.probability) for guess in named])
        for path, named in zip(shown, guesses, strict=bool(guesses))
    ]


def _origin(backbone: Backbone) -> dict[str, Any]:
    card = backbone.card
    return {
        "name": card.name,
        "source": card.source,
        "licence": card.licence,
        "fingerprint": backbone.fingerprint,
        "precision": card.precision,
        "input": "{} x {}".format(*backbone.input_size),
        "weights": card.weights,
    }


def _failures(store: Store, paths: Sequence[str]) -> list[FailedImage]:
    """Returns the failed images in the folders of the dataset; a store may contain several datasets."""
    folders = {os.path.dirname(path) for path in paths}  # noqa: PTH120 - a Path per image is slow
    root = os.path.commonpath([Path(folder).absolute() for folder in folders])
    inside = root.rstrip(os.sep) + os.sep
    return [FailedImage(row.path, row.reason) for row in store.catalog.ledger.failures() if row.path.startswith(inside)]


def _notes(labelling: Labelling | None) -> list[str]:
    """Returns the notes on the files without their paths, which the report shows with the images.

    A note is a reason and a count, and may end with paths: ``reason: count: paths``.
    """
    return [": ".join(note.split(": ")[:2]) for note in labelling.notes] if labelling else []


def _conflicts(dataset: Dataset, labelling: Labelling | None) -> list[ImageGroup]:
    """Returns the images with several labels: of the files if they were just labelled, else of the dataset."""
    if labelling is not None:
        return [_files(files) for files in labelling.conflicts.values()]
    return [] if dataset.labels is None else _rows(dataset, find_contradictions(dataset.keys, dataset.labels))


def _leaks(dataset: Dataset, labelling: Labelling | None) -> list[ImageGroup]:
    if labelling is not None:
        return [_files(files) for files in labelling.leaks.values()]
    return [] if dataset.splits is None else _rows(dataset, find_leaks(dataset.keys, dataset.splits))


def _files(files: Sequence[ImageFile]) -> ImageGroup:
    return ImageGroup([GroupImage(file.path, file.label or "", file.split or "") for file in files])


def _rows(dataset: Dataset, found: Sequence[Conflict]) -> list[ImageGroup]:
    def shown(row: int) -> GroupImage:
        values = [None if column is None else column[row] for column in (dataset.labels, dataset.splits)]
        return GroupImage(dataset.paths[row], *("" if value is None else str(value) for value in values))

    return [ImageGroup([shown(row) for row in conflict.rows]) for conflict in found]


def _map(trained: Trained, store: Store, map_by: str) -> Embedding:
    """Returns the map of the test images by their features, or of a sample if there are many."""
    evaluation = trained.evaluation
    rows = np.array(pick_evenly(range(evaluation.n), MAP_IMAGES))
    features = trained.head.gather(store, evaluation.keys[rows])
    classes = evaluation.classes
    return Embedding(
        project(features, map_by),
        [trained.test_paths[row] for row in rows],
        [classes[evaluation.labels[row]] for row in rows],
        [classes[evaluation.predicted[row]] for row in rows],
        map_by.upper(),
    )
