"""Predicts images with the file of a model, or with a head and the features in its store."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from penult.cores import worker_count
from penult.errors import InputError
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.names import Task
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.listing import list_images
from penult.pipeline.images.views import view_of
from penult.pipeline.models.fusion import ranked
from penult.pipeline.models.model import Model
from penult.pipeline.models.predictors import HeadPredictor, ModelPredictor, model_or_head
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.samples.targets import SEPARATOR
from penult.store import Store

__all__ = ["UNSURE", "Prediction", "Predictions", "check_options", "predict"]

UNSURE = "unsure"
"""The label of an image whose confidence is below ``min_confidence``."""

BATCH_FILES = 256
"""The most files per load; the first loads are smaller, so that the first predictions come at once."""

IN_FLIGHT = 2
"""Loads per worker: one in progress and one waiting."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image: a label with its probability, or an error.

    ``probabilities`` contains the ``top`` classes, the most probable first. ``label`` is "unsure" if the highest
    probability, the ``confidence``, is below ``min_confidence``. For a head for tags, the label is the tags above the
    threshold, joined by ``|``; for a head for a number, it is the ``value`` as text.
    """

    path: str
    label: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    error: str | None = None
    value: float | None = None

    @classmethod
    def of(
        cls,
        path: str,
        found: NDArray[np.floating] | str,
        classes: Sequence[str],
        *,
        top: int | None = None,
        min_confidence: float = 0.0,
        task: Task = "classification",
    ) -> Self:
        """Returns the prediction for an image from its probabilities (C) or its error."""
        if isinstance(found, str):
            return cls(path, error=found)
        if task == "regression":
            return cls(path, f"{found[0]:.6g}", value=float(found[0]))
        order = ranked(found)[:top]
        probabilities = {classes[index]: float(found[index]) for index in order}
        if task == "multilabel":
            tags = [
                name for name, probability in zip(classes, found, strict=True) if probability > (min_confidence or 0.5)
            ]
            return cls(path, SEPARATOR.join(tags), probabilities)
        confidence = float(found[order[0]])
        return cls(path, classes[order[0]] if confidence >= min_confidence else UNSURE, probabilities, confidence)

    def to_json(self) -> dict[str, Any]:
        """Returns ``path``, ``label`` and ``probabilities``; or ``path`` and ``value``; or ``path`` and ``error``."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        if self.value is not None:
            return {"path": self.path, "value": self.value}
        return {"path": self.path, "label": self.label, "probabilities": self.probabilities}


class Predictions(Iterator[Prediction]):
    """An iterator over predictions; ``classes`` are the possible labels."""

    def __init__(self, classes: tuple[str, ...], found: Iterator[Prediction]) -> None:
        self.classes = classes
        self._found = found

    def __next__(self) -> Prediction:
        return next(self._found)


def predict(
    model: str | Path | Model | Head,
    images: str | Path | Iterable[str | Path | ImageFile],
    *,
    store: str | Path | Store | None = None,
    top: int | None = None,
    min_confidence: float | None = None,
    provider: str = "auto",
    views: Sequence[str] = (),
    progress: Progress | None = None,
) -> Predictions:
    """Returns an iterator over the predictions of all images in order; later images are computed while it is read.

    Args:
        model: the file of a model, a `Model`, a `Head`, or the name of a head in ``store``. With a head, features in
            the store are reused; other features are computed and not stored.
        images: a folder, a table, one image, or an iterable of images, which may be infinite.
        store: the store of the head.
        top: the number of classes per image; None for all.
        min_confidence: images with a lower confidence get the label "unsure". The default is the value chosen in
            training, or 0.
        provider: the execution provider of ONNX Runtime.
        views: views of the image whose predictions are averaged, instead of the image itself.
        progress: receives the progress.

    An unusable image gives a prediction with an error. Memory does not grow with the number of images.
    """
    check_options(top, min_confidence or 0.0)
    found = model_or_head(model, store, provider=provider)
    for view in views:
        view_of(view)
    predictor = ModelPredictor(found, views) if isinstance(found, Model) else HeadPredictor(*found, provider, views)
    if min_confidence is None:
        min_confidence = found.min_confidence if isinstance(found, Model) else found[0].card.min_confidence
    floor = min_confidence
    files = list_images(images) if isinstance(images, str | Path) else map(_file, images)
    first = next(files, None)
    if first is None:
        raise InputError(
            f"There is no image in {images if isinstance(images, str | Path) else 'the list'}",
            expected="a folder with images at any depth, a table with the column 'path', or one image",
        )

    def finish(load: Sequence[ImageFile]) -> list[Prediction]:
        return [
            Prediction.of(file.path, result, predictor.classes, top=top, min_confidence=floor, task=predictor.task)
            for file, result in predictor(load)
        ]

    predictions = _in_order(finish, chain([first], files), predictor.batch_size, progress or Silent())
    return Predictions(predictor.classes, predictions)


def check_options(top: int | None, min_confidence: float) -> None:
    """Raises InputError for invalid values of ``top`` and ``min_confidence``."""
    if top is not None and top < 1:
        raise InputError(f"top is {top}", expected="1 or more, or None for all classes")
    if not 0 <= min_confidence <= 1:
        raise InputError(f"min_confidence is {min_confidence}", expected="a probability from 0 to 1")


def _file(image: str | Path | ImageFile) -> ImageFile:
    return image if isinstance(image, ImageFile) else ImageFile.at(os.fspath(image))


def _in_order(
    finish: Callable[[Sequence[ImageFile]], list[Prediction]],
    files: Iterator[ImageFile],
    first_load: int,
    progress: Progress,
) -> Iterator[Prediction]:
    """Runs loads on one worker per core, and yields their predictions in the order of the files."""
    workers = worker_count()
    waiting: deque[Future[list[Prediction]]] = deque()
    with progress.task("Predicting") as task, ThreadPoolExecutor(workers, thread_name_prefix="penult-worker") as pool:
        try:
            for load in _loads(files, first_load):
                waiting.append(pool.submit(finish, load))
                if len(waiting) >= IN_FLIGHT * workers:
                    found = waiting.popleft().result()
                    yield from found
                    task.advance(len(found))
            while waiting:
                found = waiting.popleft().result()
                yield from found
                task.advance(len(found))
        finally:
            pool.shutdown(cancel_futures=True)


def _loads(files: Iterator[ImageFile], first_load: int) -> Iterator[list[ImageFile]]:
    """Yields loads of doubling size: few images are spread over all workers, and many have little overhead."""
    size = first_load
    while load := list(islice(files, size)):
        yield load
        size = max(first_load, min(2 * size, BATCH_FILES))
