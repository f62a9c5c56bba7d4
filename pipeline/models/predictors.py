"""The two ways from files to probabilities: a bundled model, or a head with its store."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError, MissingFileError
from penult.exporters.card import Preprocessing
from penult.pipeline.extraction.worker import Outcome, Presence, Worker
from penult.pipeline.extraction.writer import missing_in_any
from penult.pipeline.heads.head import Head, features_of, probabilities_of
from penult.pipeline.heads.names import Task
from penult.pipeline.heads.saved_heads import backbone_of, saved_head
from penult.pipeline.heads.scoring import mean_over_views
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.views import IDENTITY, row_name
from penult.pipeline.models.fusion import PROBABILITIES, taps_of
from penult.pipeline.models.model import Model
from penult.pipeline.runtime.session import BATCH_SIZES, GraphRunner, Session
from penult.store import Space, Store, as_store
from penult.store.catalog.files import FileStat
from penult.store.features import gather
from penult.store.keys import key_array

__all__ = ["HeadPredictor", "ModelPredictor", "ProbabilitiesOrError", "model_or_head"]


ProbabilitiesOrError: TypeAlias = NDArray[np.floating] | str
"""The probabilities (C) of an image, or the reason why it has none."""


class ModelPredictor:
    """Predicts with a bundled model; thread-safe."""

    def __init__(self, model: Model, views: Sequence[str] = ()) -> None:
        self.classes, self.batch_size = model.classes, model.runner.batch_size
        self.task: Task = "classification"
        self._views = tuple(views) or (IDENTITY,)
        self._extractor = _Extractor(model.runner, model.preprocessing, lambda keys: [False] * len(keys), self._views)

    def __call__(self, files: Sequence[ImageFile]) -> list[tuple[ImageFile, ProbabilitiesOrError]]:
        """Returns the files in their order, each with what was found."""
        found: dict[ImageFile, ProbabilitiesOrError] = {}
        for outcome in self._extractor.outcomes(files):
            found.update(outcome.failed)
            if outcome.extracted:
                rows = mean_over_views([outcome.rows[row_name(PROBABILITIES, view)] for view in self._views])
                found.update((file, row) for (file, _), row in zip(outcome.extracted, rows, strict=True))
        return [(file, found[file]) for file in files]


class HeadPredictor:
    """Predicts with a head and the rows of its store; missing rows are computed and not stored. Thread-safe.

    The backbone is loaded when an image needs it. With ``views``, the probabilities of these views are averaged.
    """

    def __init__(self, head: Head, store: Store, provider: str, views: Sequence[str] = ()) -> None:
        self.classes = tuple(str(name) for name in head.card.classes)
        self.task = head.card.task
        self.batch_size = BATCH_SIZES["cpu"]
        self._head, self._store, self._provider = head, store, provider
        self._views = tuple(views) or (IDENTITY,)
        known_spaces = {space.spec.id: space for space in store.spaces()}
        own_spaces = [known_spaces[ref.id] for ref in head.card.spaces if ref.id in known_spaces]
        if views:
            self._spaces_by_view = [
                [known_spaces[each] for each in _in_view(own_spaces, view) if each in known_spaces]
                for view in self._views
            ]
        else:
            self._spaces_by_view = [own_spaces]
        self._spaces = [space for spaces in self._spaces_by_view for space in spaces]
        self._has_all_spaces = len(self._spaces) == len(self._views) * len(head.card.spaces)
        self._lock = Lock()
        self._extractor: _Extractor | None = None

    def __call__(self, files: Sequence[ImageFile]) -> list[tuple[ImageFile, ProbabilitiesOrError]]:
        """Returns the files in their order, each with what was found."""
        stored = self._look_up(files)
        known = {file for file, _ in stored}
        found: dict[ImageFile, ProbabilitiesOrError] = {}
        for outcome in self._compute([file for file in files if file not in known]):
            found.update(outcome.failed)
            stored.extend(outcome.present)
            if outcome.extracted:
                features = [self._features(outcome, view) for view in self._views]
                found.update(self._predict([file for file, _ in outcome.extracted], features))
        if stored:
            keys = key_array(key for _, key in stored)
            found.update(
                self._predict([file for file, _ in stored], [gather(spaces, keys) for spaces in self._spaces_by_view])
            )
        return [(file, found[file]) for file in files]

    def _look_up(self, files: Sequence[ImageFile]) -> list[tuple[ImageFile, bytes]]:
        """Returns the files whose rows are in the store, without opening a file."""
        stats = [FileStat(file.path, file.size, file.mtime_ns) for file in files]
        keys = self._store.catalog.files.known(stats)
        seen = [(file, key) for file, key in zip(files, keys, strict=True) if key is not None]
        present = self._is_present([key for _, key in seen])
        return [item for item, is_here in zip(seen, present, strict=True) if is_here]

    def _is_present(self, keys: Sequence[bytes]) -> list[bool]:
        if not self._has_all_spaces:
            return [False] * len(keys)
        return [not lacks for lacks in missing_in_any(self._spaces, keys)]

    def _compute(self, files: Sequence[ImageFile]) -> Iterator[Outcome]:
        if not files:
            return iter(())
        with self._lock:
            if self._extractor is None:
                backbone = backbone_of(self._store, self._head)
                session = Session(backbone, taps_of(self._head.card.spaces, backbone), provider=self._provider)
                self._extractor = _Extractor(session, backbone.card.preprocessing, self._is_present, self._views)
        return self._extractor.outcomes(files)

    def _features(self, outcome: Outcome, view: str) -> NDArray[np.float32]:
        """Returns the features of the images in one view."""
        spaces = self._head.card.spaces
        return features_of({space.tap: outcome.rows[row_name(space.tap, view)] for space in spaces}, spaces)

    def _predict(
        self, files: Sequence[ImageFile], features: Sequence[NDArray[np.float32]]
    ) -> Iterator[tuple[ImageFile, ProbabilitiesOrError]]:
        """Yields the results of the files; ``features`` contains one matrix per view."""
        is_finite = np.logical_and.reduce([np.isfinite(matrix).all(axis=1) for matrix in features])
        outputs = [probabilities_of(self._head, matrix[is_finite]) for matrix in features] if is_finite.any() else []
        rows = iter(mean_over_views(outputs)) if outputs else iter(())
        for file, row_is_finite in zip(files, is_finite, strict=True):
            yield file, next(rows) if row_is_finite else "its features are not finite in the precision of the space"


def _in_view(spaces: Sequence[Space], view: str) -> list[str]:
    """Returns the ids of the spaces that show a view of what ``spaces`` show."""
    return [replace(space.spec, view=view).id for space in spaces]


class _Extractor:
    """Reads, decodes and runs files in batches of the runner's size."""

    def __init__(
        self, runner: GraphRunner, preprocessing: Preprocessing, is_present: Presence, views: Sequence[str]
    ) -> None:
        self._batch_size, self._is_present = runner.batch_size, is_present
        self._worker = Worker(runner, preprocessing, "float32", views=views)

    def outcomes(self, files: Sequence[ImageFile]) -> Iterator[Outcome]:
        for start in range(0, len(files), self._batch_size):
            yield self._worker(files[start : start + self._batch_size], self._is_present)


def model_or_head(
    model: str | Path | Model | Head, store: str | Path | Store | None, *, provider: str = "auto"
) -> Model | tuple[Head, Store]:
    """Returns the model, or the head with its store."""
    if isinstance(model, str | Path) and _names_file(model):
        return Model.load(model, provider=provider)
    if isinstance(model, Model):
        return model
    if store is None:
        raise InputError(
            f"The head {model!r} was given without its store"
            if isinstance(model, Head)
            else f"{model!r} is not a file",
            expected="the file of a model, or a head and the store that it was trained on",
            remedy="name the store, or bundle the head",
        )
    opened = _open(store, model)
    return (model if isinstance(model, Head) else saved_head(opened, str(model))), opened


def _open(store: str | Path | Store, model: str | Path | Head) -> Store:
    try:
        return as_store(store)
    except MissingFileError:
        raise MissingFileError(
            f"{str(model)!r} is not a file, and there is no store at {str(store)!r} with a head of this name",
            expected="the file of a model, or the name of a head in a store",
            remedy="check the spelling, or name the store with --store",
        ) from None


def _names_file(model: str | Path) -> bool:
    """Returns whether ``model`` is the path of a file and not the name of a head."""
    return isinstance(model, Path) or Path(model).is_file() or model.lower().endswith(".onnx")
