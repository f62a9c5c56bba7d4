"""The main job in one call: extract, label, split, train, test, write the report and the model."""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from penult.errors import InputError
from penult.exporters import Backbone, load_backbone
from penult.pipeline.extraction.extract import ExtractOptions, extract, find_images
from penult.pipeline.extraction.receipt import Receipt
from penult.pipeline.heads.registry import check_head
from penult.pipeline.heads.saved_heads import backbone_of
from penult.pipeline.images.image_file import ImageFile, is_remote
from penult.pipeline.images.views import IDENTITY, parse_views
from penult.pipeline.models.bundle import bundle
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.report import ReportContent, write_report
from penult.pipeline.report.insights import insights_of
from penult.pipeline.report.reporting import report_of, with_insights
from penult.pipeline.samples.labelling import Labelling, check_trainable, label_images
from penult.pipeline.samples.merging import check_source, merge_source
from penult.pipeline.samples.relabelling import splits_of
from penult.pipeline.samples.rows import pick_evenly
from penult.pipeline.training.options import TrainOptions
from penult.pipeline.training.planning import check_choices
from penult.pipeline.training.recording import Trained
from penult.pipeline.training.train import train
from penult.store import Store, as_store
from penult.store.catalog.datasets import Dataset
from penult.store.keys import key_array
from penult.store.tables.splits import split_by_key
from penult.store.tables.table import Table

REPORT, MODEL = "report.html", "model.onnx"

# The number of real images on which the model's file is compared with the head.
CHECK_IMAGES = 16

# Labels are reviewed for at most this many images, which takes seconds; `penult report` reviews any number.
REVIEW_IMAGES = 5_000

# Advice is given for at most this many images * features * classes; the learning curve takes about twelve fits.
ADVISED_WORK = 1.5e8


@dataclass(frozen=True)
class Delivery:
    """The paths of the report and the model."""

    report: Path
    model: Path

    def to_json(self) -> dict[str, Any]:
        """Returns the paths as plain data."""
        return {"report": str(self.report), "model": str(self.model)}


# Folder names that say nothing about the images: the folder above names the dataset.
GENERIC_NAMES = frozenset({"data", "dataset", "images", "img", "imgs"})


def make_output_folder(folder: Path) -> None:
    """Creates the folder for the report and the model, or raises an error if they cannot be written there."""
    reason = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
    if reason or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"The folder {str(folder)!r} is not writable: {reason or 'permission denied'}",
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
    # The report comes first, because some heads cannot be written as a model.
    with progress.task("Report and model", total=2, unit="files") as task:
        content = report_of(trained, store, backbone, labelling=labelling, receipt=receipt)
        write_report(delivery.report, _reviewed(content, trained, store))
        task.advance()
        bundle(trained.head, backbone, delivery.model, check_images=pick_evenly(trained.test_paths, CHECK_IMAGES))
        task.advance()
    return delivery


def _reviewed(content: ReportContent, trained: Trained, store: Store) -> ReportContent:
    """Returns the report with doubtful labels, near duplicates and advice, or with a note why they are missing."""
    card = trained.head.card
    if card.n_train + card.n_test > REVIEW_IMAGES:
        reason = f"there are more than {REVIEW_IMAGES:,} images; run 'penult report {card.name}'"
    else:
        advises = card.n_train * card.width * len(card.classes) <= ADVISED_WORK
        if not advises:
            note = f"No advice was computed, because it takes minutes here; run 'penult report {card.name}'"
            content = replace(content, notes=[*content.notes, note])
        try:
            return with_insights(content, insights_of(trained.head, store, advises=advises))
        except InputError as error:  # for example if a class has too few images to hold any out
            reason = str(error)
    return replace(content, notes=[*content.notes, f"Labels and near duplicates were not reviewed: {reason}"])


@dataclass(frozen=True)
class Fitted:
    """Everything that one `fit` made."""

    receipt: Receipt
    dataset: Dataset
    labelling: Labelling
    trained: Trained
    delivery: Delivery
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Returns the result as plain data."""
        return {
            **self.trained.to_json(),
            **self.delivery.to_json(),
            "seconds": round(self.seconds, 3),
            "notes": list(dict.fromkeys((*self.labelling.notes, *self.trained.notes))),
            "receipt": self.receipt.to_json(),
        }


def fit(  # noqa: PLR0913 - two jobs in one call, each with its own options
    images: str | Path,
    store: str | Path | Store = "penult-store",
    *,
    head: str = "logistic",
    backbone: str | Path | Backbone = "efficientnet-lite0",
    features: str = "penultimate",
    output: str | Path = ".",
    name: str | None = None,
    labels_from_source: bool = False,
    options: ExtractOptions | None = None,
    training: TrainOptions | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Trains a classifier on a folder with one folder per class, or on a table with the columns path and label.

    Writes ``report.html`` and ``model.onnx`` into ``output``. The labels go to the dataset ``name``, by default named
    after the folder. Labels that a person corrected in it stay, unless ``labels_from_source`` discards them. Features
    that are in the store are not extracted again. The split is that of the folders or the table. Otherwise a fifth of
    the images is held out for the test, chosen by their keys, so that images added later do not move earlier ones.
    ``options`` are for `extract`, ``training`` for `train`. The views of either are extracted and trained on.
    """
    began = time.perf_counter()
    progress = progress or Silent()
    check_head(head)  # before an hour of extraction
    options, training = _with_views(options or ExtractOptions(), training or TrainOptions())
    check_choices(head, training)
    network = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    own = {str(Path(output).absolute() / name) for name in (REPORT, MODEL)}  # files of an earlier fit
    files = [file for file in find_images(images, progress) if file.path not in own]
    check_trainable(sorted({file.label for file in files if file.label is not None}), str(images))
    make_output_folder(Path(output))  # before the extraction, too
    opened = as_store(store, create=True)
    taps = [tap.strip() for tap in features.split(",")]
    name, source = name or dataset_name(images), source_of(images)
    check_source(opened.catalog.datasets, name, source)
    receipt = extract(files, opened, backbone=network, taps=taps, options=options, progress=progress)
    labelling, dataset = save_dataset(opened, name, files, source, discard=labels_from_source)
    spaces = ",".join(f"{network.fingerprint}:{tap}:{options.dtype}" for tap in taps)
    trained = train(opened, dataset=dataset.name, head=head, features=spaces, options=training, progress=progress)
    delivery = deliver(trained, opened, Path(output), labelling=labelling, receipt=receipt.to_json(), progress=progress)
    return Fitted(receipt, dataset, labelling, trained, delivery, time.perf_counter() - began)


def _with_views(options: ExtractOptions, training: TrainOptions) -> tuple[ExtractOptions, TrainOptions]:
    """Returns both options with the views of either. The identity view is always extracted, because tests use it."""
    asked = training.views or parse_views(options.views)
    if asked == (IDENTITY,):
        return options, training
    extracted = dict.fromkeys((IDENTITY, *parse_views(options.views), *asked))
    return replace(options, views=",".join(extracted)), replace(training, views=asked)


def dataset_name(images: str | Path) -> str:
    """Returns the name of the dataset for these images: that of the folder or table, or of a folder above it.

    >>> dataset_name("photos/My cats (2024)/"), dataset_name("site-a/images")
    ('My-cats-2024', 'site-a')
    """
    path = Path(images).absolute().resolve()
    telling = next((part for part in (path, *path.parents) if part.name.lower() not in GENERIC_NAMES), path)
    name = re.sub(r"[^\w.]+", "-", telling.stem if telling is path else telling.name).strip("-.")
    return name or "images"


def source_of(images: str | Path) -> str:
    """Returns the folder, table, pattern or URL of images in the form that a dataset remembers."""
    text = os.fspath(images)
    return text if is_remote(text) else os.path.abspath(text)  # noqa: PTH100 - resolve() would follow links


def save_dataset(
    store: Store, name: str, files: Sequence[ImageFile], source: str, *, discard: bool = False
) -> tuple[Labelling, Dataset]:
    """Merges the labels of files whose features are in the store into a dataset; it is split if no split is given.

    Labels that a person corrected stay, unless ``discard`` is given.
    """
    labelling = label_images(files, store.catalog.files.known(files))
    samples = labelling.samples
    _check_usable(labelling, files, source)
    labels = [sample.label for sample in samples]
    splits: Sequence[str | None] = [sample.split for sample in samples]
    if all(split in (None, "train") for split in splits):
        splits = _made_split(store, name, labelling)
    elif "train" not in splits:
        raise InputError(
            f"No image of {source!r} is for training; the splits are {', '.join(sorted(set(map(str, splits))))}",
            expected="a folder named train, or the value train in the column 'split'",
        )
    table = Table(
        keys=key_array([sample.key for sample in samples]),
        paths=tuple(sample.path for sample in samples),
        columns={"label": np.array(labels), "split": np.array(splits)},
    )
    merged = merge_source(store.catalog.datasets, name, table, source, discard=discard)
    labelling.notes += merged.notes
    return labelling, store.catalog.datasets.save(name, merged.table)


def _check_usable(labelling: Labelling, files: Sequence[ImageFile], source: str) -> None:
    labelled = {file.label for file in files if file.label is not None}
    check_trainable(sorted(labelled), source)
    usable = {sample.label for sample in labelling.samples}
    if len(usable) < 2:
        raise InputError(
            f"Of the {len(labelled)} classes in {source!r}, only {len(usable)} have images that could be used",
            expected="at least two classes",
            remedy="run 'penult store failures' to see why images could not be used; --limit leaves images out, too",
        )


def _made_split(store: Store, name: str, labelling: Labelling) -> list[str]:
    """Splits by key. Samples in the newest version of the dataset keep their split."""
    keys = key_array([sample.key for sample in labelling.samples])
    labels = [sample.label for sample in labelling.samples]
    return [str(split) for split in split_by_key(keys, labels, previous=splits_of(store, name))]
