"""The last step of fit and train: the report that people read and the model that others run."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penult.errors import InputError
from penult.pipeline.heads.saved_heads import backbone_of
from penult.pipeline.insights import insights_of
from penult.pipeline.models.bundle import bundle
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.report import Report, write_report
from penult.pipeline.reporting import report_of, spread, with_insights
from penult.pipeline.training.labelling import Labelling
from penult.pipeline.training.train import Trained
from penult.store import Store

REPORT, MODEL = "report.html", "model.onnx"

# How many real images the model's file is checked on against the head, before it is written.
CHECK_IMAGES = 16

# Up to how many images the labels are reviewed by the way, which takes seconds; for more, `penult report` does it.
REVIEW_IMAGES = 5_000

# Up to how many images times features times classes it is advised by the way: the learning curve takes some dozen fits.
ADVISED_WORK = 1.5e8


@dataclass(frozen=True)
class Delivery:
    """Where the report and the model lie."""

    report: Path
    model: Path

    def to_json(self) -> dict[str, Any]:
        """Returns the paths as plain data."""
        return {"report": str(self.report), "model": str(self.model)}


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
    # The report comes first: some heads cannot be written as a model, and what they are worth is known all the same.
    with progress.task("Report and model", total=2, unit="files") as task:
        content = report_of(trained, store, backbone, labelling=labelling, receipt=receipt)
        write_report(delivery.report, _reviewed(content, trained, store))
        task.advance()
        bundle(trained.head, backbone, delivery.model, check_images=spread(trained.test_paths, CHECK_IMAGES))
        task.advance()
    return delivery


def _reviewed(content: Report, trained: Trained, store: Store) -> Report:
    """Returns the report with doubtful labels and near copies, or with a note of why they were not looked for."""
    card = trained.head.card
    if card.n_train + card.n_test > REVIEW_IMAGES:
        reason = f"there are more than {REVIEW_IMAGES:,} images; 'penult report {card.name}' does it"
    else:
        advises = card.n_train * card.width * len(card.classes) <= ADVISED_WORK
        if not advises:
            note = f"What to do next was not looked for: it takes minutes here; 'penult report {card.name}' does it"
            content = replace(content, notes=[*content.notes, note])
        try:
            return with_insights(content, insights_of(trained.head, store, advises=advises))
        except InputError as error:  # such as one of a class with too few images to hold any out
            reason = str(error)
    return replace(content, notes=[*content.notes, f"Labels and copies were not reviewed: {reason}"])
