"""Fills the report of a head with all that its store knows of it."""

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
    Failure,
    Group,
    Insights,
    Report,
    Shown,
    project,
    write_report,
)
from penult.pipeline.report.untrained import original_guesses, untrained
from penult.pipeline.samples.labelling import Labelling
from penult.pipeline.samples.rows import TrainingRows, choose_rows
from penult.pipeline.samples.targets import LABEL, labelled
from penult.pipeline.training.recording import Trained
from penult.pipeline.training.testing import retest
from penult.store import Store, as_store
from penult.store.catalog.datasets import Dataset
from penult.store.tables.leaks import Conflict, find_contradictions, find_leaks

__all__ = ["report", "report_of", "spread", "with_insights"]

# How many images the report's map shows at most, and of how many it tells what the network itself says.
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

    The head is tested again on the images that it was tested on, from the features in the store; images are opened
    for their pictures only. ``map_by`` is "pca", or "umap" with the extra of that name. ``insights`` are shown too.
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


def with_insights(content: Report, insights: Insights) -> Report:
    """Returns a report that shows insights as well."""
    return replace(content, **vars(replace(insights, leaks=[*content.leaks, *insights.leaks])))


def report_of(
    trained: Trained,
    store: Store,
    backbone: Backbone,
    *,
    labelling: Labelling | None = None,
    receipt: dict[str, Any] | None = None,
    map_by: str = "pca",
) -> Report:
    """Returns the report of a head that was just tested; ``labelling`` and ``receipt`` are those of `fit`."""
    card = trained.head.card
    dataset = labelled(
        store.catalog.datasets.load(card.dataset, card.dataset_version), card.target[0], "classification"
    )
    rows = choose_rows(dataset)
    return Report(
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
        leaks=_leaks(dataset, labelling),
        embedding=_map(trained, store, map_by),
    )


def _command(trained: Trained, store: Store) -> str:
    """Returns what trains the head again."""
    card = trained.head.card
    features = ",".join(
        ":".join([space.fingerprint[:12], space.tap, *({space.view} - {"identity"}), space.dtype])
        for space in card.spaces
    )
    words = ["penult", "train", card.dataset, "--head", card.kind, "--features", features, "--name", card.name]
    if card.target != (LABEL,):
        words += ["--target", card.target[0]]
    for name, value in card.params.items():
        if name == "class_weight":
            words += ["--class-weight", str(value)]
        elif not name.endswith("_"):  # so the estimators call what they choose by themselves
            words += ["--param", f"{name}={value}"]
    if card.abstention is not None:
        words += ["--min-accuracy", str(card.abstention["wanted"])]
    return shlex.join([*words, "--store", store.short_address])


def _baselines(backbone: Backbone, store: Store, rows: TrainingRows) -> list[Baseline]:
    found = untrained(backbone, store, rows)
    if found is None:
        return []
    asked = "" if found.tested == len(rows.test) else f", on {found.tested:,} of the images"
    note = (
        f"Of {backbone.name}'s own {found.own_classes:,} classes, each is read as the label that most training images "
        "bear which it calls so."
    )
    return [Baseline(f"{backbone.name} untrained, its own classes renamed{asked}", found.accuracy, note)]


def _before(backbone: Backbone, paths: Sequence[str]) -> list[Before]:
    shown = spread(paths, BEFORE_IMAGES)
    guesses = original_guesses(backbone, shown) if backbone.card.classes else []
    return [
        Before(path, [(guess.name, guess.probability) for guess in named])
        for path, named in zip(shown, guesses, strict=bool(guesses))
    ]


def _origin(backbone: Backbone) -> dict[str, Any]:
    card = backbone.card
    told = {"name": card.name, "source": card.source, "licence": card.licence, "fingerprint": backbone.fingerprint}
    return {
        **told,
        "precision": card.precision,
        "input": "{} x {}".format(*backbone.input_size),
        "weights": card.weights,
    }


def _failures(store: Store, paths: Sequence[str]) -> list[Failure]:
    """Returns the failed images among those of the dataset: a store may hold the images of many."""
    folders = {os.path.dirname(path) for path in paths}  # noqa: PTH120 - for every image: no Path is made
    root = os.path.commonpath([Path(folder).absolute() for folder in folders])
    inside = root.rstrip(os.sep) + os.sep
    return [Failure(row.path, row.reason) for row in store.catalog.ledger.failures() if row.path.startswith(inside)]


def _notes(labelling: Labelling | None) -> list[str]:
    """Returns what was noted of the files, without the paths, which stand in the report beside their pictures."""
    return [note.partition(": ")[0] for note in labelling.notes] if labelling else []


def _conflicts(dataset: Dataset, labelling: Labelling | None) -> list[Group]:
    """Returns the images under several labels, of the files where they were just labelled, else of the dataset."""
    if labelling is not None:
        return [_files(files) for files in labelling.conflicts.values()]
    return [] if dataset.labels is None else _rows(dataset, find_contradictions(dataset.keys, dataset.labels))


def _leaks(dataset: Dataset, labelling: Labelling | None) -> list[Group]:
    if labelling is not None:
        return [_files(files) for files in labelling.leaks.values()]
    return [] if dataset.splits is None else _rows(dataset, find_leaks(dataset.keys, dataset.splits))


def _files(files: Sequence[ImageFile]) -> Group:
    return Group([Shown(file.path, file.label or "", file.split or "") for file in files])


def _rows(dataset: Dataset, found: Sequence[Conflict]) -> list[Group]:
    def shown(row: int) -> Shown:
        values = [None if column is None else column[row] for column in (dataset.labels, dataset.splits)]
        return Shown(dataset.paths[row], *("" if value is None else str(value) for value in values))

    return [Group([shown(row) for row in conflict.rows]) for conflict in found]


def _map(trained: Trained, store: Store, map_by: str) -> Embedding:
    """Lays the test images out by their features, sampled where they are many."""
    evaluation = trained.evaluation
    rows = np.array(spread(range(evaluation.n), MAP_IMAGES))
    features = trained.head.gather(store, evaluation.keys[rows])
    classes = evaluation.classes
    return Embedding(
        project(features, map_by),
        [trained.test_paths[row] for row in rows],
        [classes[evaluation.labels[row]] for row in rows],
        [classes[evaluation.predicted[row]] for row in rows],
        map_by.upper(),
    )


def spread(values: Sequence[Any], count: int) -> list[Any]:
    """Picks up to ``count`` of the values, evenly over all of them.

    >>> spread("abcdefghi", 3)
    ['a', 'e', 'i']
    """
    places = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return [values[place] for place in places]
