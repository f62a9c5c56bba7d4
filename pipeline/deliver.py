"""The last step of fit and train: the report that people read and the model that others run."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penult.errors import InputError, MissingFileError
from penult.exporters import Backbone
from penult.pipeline.extraction.images import ImageFile
from penult.pipeline.guesses import original_guesses
from penult.pipeline.heads.head import Head
from penult.pipeline.models.bundle import bundle
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.report import Before, Embedding, Failure, Group, Report, Shown, project, write_report
from penult.pipeline.training.labelling import Labelling
from penult.pipeline.training.train import Trained
from penult.store import Store

REPORT, MODEL = "report.html", "model.onnx"

# How many images the report's map shows at most, and of how many it tells what the network itself says.
MAP_IMAGES = 2_000
BEFORE_IMAGES = 6

# How many real images the model's file is checked on against the head, before it is written.
CHECK_IMAGES = 16


@dataclass(frozen=True)
class Delivery:
    """Where the report and the model lie."""

    report: Path
    model: Path

    def to_json(self) -> dict[str, Any]:
        """Returns the paths as plain data."""
        return {"report": str(self.report), "model": str(self.model)}


def backbone_of(store: Store, head: Head) -> Backbone:
    """Returns the backbone that made a head's features, from the copy that its store keeps."""
    space = head.card.spaces[0]
    path = store.backbone_path(space.backbone, space.fingerprint)
    if not path.is_file():
        raise MissingFileError(
            f"The store has lost the backbone {space.backbone} with the fingerprint {space.fingerprint}",
            expected=f"its file at {str(path)!r}",
            remedy="run 'penult extract' with that backbone again; it puts the file back and extracts nothing twice",
        )
    return Backbone.load(path)


def make_output_folder(folder: Path) -> None:
    """Makes the folder for the report and the model where there is none, or says why they cannot be written there."""
    reason = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
    if reason or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"Nothing can be written into the folder {str(folder)!r}: {reason or 'you may not write there'}",
            expected="a folder for the report and the model",
            remedy="name another one with --output",
        )


def deliver(
    trained: Trained,
    store: Store,
    folder: Path,
    *,
    labelling: Labelling | None = None,
    receipt: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Delivery:
    """Writes ``report.html`` and ``model.onnx`` of a trained head into ``folder``."""
    progress = progress or Silent()
    make_output_folder(folder)
    delivery = Delivery(folder / REPORT, folder / MODEL)
    backbone = backbone_of(store, trained.head)
    with progress.task("Report and model", total=2, unit="files") as task:
        bundle(trained.head, backbone, delivery.model, check_images=_spread(trained.test_paths, CHECK_IMAGES))
        task.advance()
        write_report(delivery.report, _report(trained, store, backbone, labelling or Labelling(), receipt))
        task.advance()
    return delivery


def _report(
    trained: Trained, store: Store, backbone: Backbone, labelling: Labelling, receipt: dict[str, Any] | None
) -> Report:
    card, evaluation = trained.head.card, trained.evaluation
    shown = _spread(trained.test_paths, BEFORE_IMAGES)
    guesses = original_guesses(backbone, shown) if backbone.card.classes else []
    return Report(
        title=card.dataset,
        evaluation=evaluation,
        paths=trained.test_paths,
        head=card.to_json(),
        command=f"penult train {card.dataset} --head {card.kind} --store {store.path}",
        before=[
            Before(path, [(guess.name, guess.probability) for guess in named])
            for path, named in zip(shown, guesses, strict=True)
        ],
        receipt=receipt or {},
        notes=[*labelling.notes, *trained.notes],
        failed=[Failure(row.path, row.reason) for row in store.catalog.ledger.failures()],
        conflicts=[_group(files) for files in labelling.conflicts.values()],
        leaks=[_group(files) for files in labelling.leaks.values()],
        embedding=_map(trained, store),
    )


def _group(files: Sequence[ImageFile]) -> Group:
    return Group([Shown(file.path, file.label or "", file.split or "") for file in files])


def _map(trained: Trained, store: Store) -> Embedding:
    """Lays the test images out by their features, sampled where they are many."""
    evaluation = trained.evaluation
    rows = np.linspace(0, evaluation.n - 1, min(evaluation.n, MAP_IMAGES)).round().astype(int)
    features = trained.head.gather(store, evaluation.keys[rows])
    classes = evaluation.classes
    return Embedding(
        project(features),
        [trained.test_paths[row] for row in rows],
        [classes[evaluation.labels[row]] for row in rows],
        [classes[evaluation.predicted[row]] for row in rows],
    )


def _spread(paths: Sequence[str], count: int) -> list[str]:
    """Picks up to ``count`` of the paths, evenly over all of them."""
    positions = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [paths[position] for position in positions]
