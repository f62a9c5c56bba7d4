"""Tells the classes of images, with a model's file alone or with a head and the features that its store holds."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
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

# The label of an image whose best class is less probable than was asked for.
UNSURE = "unsure"

# How many files a load has at most; the first has few, so that the first answers come at once.
BATCH_FILES = 256

# How many loads are under way for each worker: one in its hands and one waiting.
IN_FLIGHT = 2


@dataclass(frozen=True)
class Prediction:
    """What was found for one image: a label with its probability, or the reason why there is none.

    ``probabilities`` holds the most probable classes first, as many as were asked for; ``label`` is "unsure" where the
    best of them, the ``confidence``, is below what was asked for. Of a head for tags the label names all that are
    more probable than not, with ``|`` between them; of one for a number it is the ``value``.
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
        """Makes the prediction of an image from its probabilities (C), or from the reason why it has none."""
        if isinstance(found, str):
            return cls(path, error=found)
        if task == "regression":
            return cls(path, f"{found[0]:.6g}", value=float(found[0]))
        best = ranked(found)[:top]
        probabilities = {classes[place]: float(found[place]) for place in best}
        if task == "multilabel":
            said = [name for name, chance in zip(classes, found, strict=True) if chance > (min_confidence or 0.5)]
            return cls(path, SEPARATOR.join(said), probabilities)
        confidence = float(found[best[0]])
        return cls(path, classes[best[0]] if confidence >= min_confidence else UNSURE, probabilities, confidence)

    def to_json(self) -> dict[str, Any]:
        """Returns ``path``, ``label`` and ``probabilities``, or ``path`` and ``error``."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        if self.value is not None:
            return {"path": self.path, "value": self.value}
        return {"path": self.path, "label": self.label, "probabilities": self.probabilities}


class Predictions(Iterator[Prediction]):
    """The predictions as they come, and the ``classes`` that they choose from."""

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
    """Predicts every image, in the order of their listing; the result is iterated once, while later ones are computed.

    ``images`` are a folder, a table, one image, or any iterable of images, be it endless.
    ``model`` is a model's file or a `Model`, or a head or its name in ``store``: then features that the store holds
    are taken from it, and the others are computed and not kept (`extract` first, if they should be). An image whose
    best class is less probable than ``min_confidence`` is called "unsure"; that is by default what was chosen when the
    head was trained for an asked accuracy, and else 0. With ``views`` the mean of what is said of each of them counts,
    instead of what is said of the image as it is. Images that cannot be used are yielded too, with the reason. Memory
    does not grow with the number of images.
    """
    check_options(top, min_confidence or 0.0)
    found = model_or_head(model, store, provider=provider)
    for view in views:
        view_of(view)
    predictor = ModelPredictor(found, views) if isinstance(found, Model) else HeadPredictor(*found, provider, views)
    own = found.min_confidence if isinstance(found, Model) else found[0].card.min_confidence
    floor = own if min_confidence is None else min_confidence
    files = list_images(images) if isinstance(images, str | Path) else map(_file, images)
    first = next(files, None)
    if first is None:
        raise InputError(
            f"There is no image in {images if isinstance(images, str | Path) else 'the list'}",
            expected="a folder with images at any depth, a table with a column 'path', or one image",
        )

    def finish(load: Sequence[ImageFile]) -> list[Prediction]:
        return [
            Prediction.of(file.path, said, predictor.classes, top=top, min_confidence=floor, task=predictor.task)
            for file, said in predictor(load)
        ]

    told = _in_order(finish, _chain(first, files), predictor.batch_size, progress or Silent())
    return Predictions(predictor.classes, told)


def check_options(top: int | None, min_confidence: float) -> None:
    """Refuses what no prediction could be cut to."""
    if top is not None and top < 1:
        raise InputError(f"top is {top}", expected="1 or more, or nothing for all classes")
    if not 0 <= min_confidence <= 1:
        raise InputError(f"min_confidence is {min_confidence}", expected="a probability from 0 to 1")


def _file(image: str | Path | ImageFile) -> ImageFile:
    return image if isinstance(image, ImageFile) else ImageFile.at(os.fspath(image))


def _chain(first: ImageFile, rest: Iterator[ImageFile]) -> Iterator[ImageFile]:
    yield first
    yield from rest


def _in_order(
    finish: Callable[[Sequence[ImageFile]], list[Prediction]],
    files: Iterator[ImageFile],
    first_load: int,
    progress: Progress,
) -> Iterator[Prediction]:
    """Hands loads to as many workers as there are cores, and yields what they found in the order of the files."""
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
    """Yields loads that double in size, so that few images are spread over the workers and many cost no overhead."""
    size = first_load
    while load := list(islice(files, size)):
        yield load
        size = max(first_load, min(2 * size, BATCH_FILES))
