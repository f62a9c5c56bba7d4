"""The two ways from files to probabilities: a bundled model, or a head with the features that its store holds."""

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

__all__ = ["Found", "HeadPredictor", "ModelPredictor", "model_or_head"]


# The probabilities (C) of an image, or the reason why it has none.
Found: TypeAlias = NDArray[np.floating] | str


class ModelPredictor:
    """Asks a bundled model; safe to call from several threads."""

    def __init__(self, model: Model, views: Sequence[str] = ()) -> None:
        self.classes, self.batch_size = model.classes, model.runner.batch_size
        self.task: Task = "classification"
        self._views = tuple(views) or (IDENTITY,)
        self._computer = _Computer(model.runner, model.preprocessing, lambda keys: [False] * len(keys), self._views)

    def __call__(self, files: Sequence[ImageFile]) -> list[tuple[ImageFile, Found]]:
        """Returns the files in their order, each with what was found."""
        found: dict[ImageFile, Found] = {}
        for outcome in self._computer.outcomes(files):
            found.update(outcome.failed)
            if outcome.extracted:
                rows = mean_over_views([outcome.rows[row_name(PROBABILITIES, view)] for view in self._views])
                found.update((file, row) for (file, _), row in zip(outcome.extracted, rows, strict=True))
        return [(file, found[file]) for file in files]


class HeadPredictor:
    """Asks a head about rows of its store, and computes those that the store lacks; safe to call from several threads.

    Nothing is written to the store. The backbone is loaded when the first image needs it. With ``views`` it gives the
    mean of what the head says of each of them.
    """

    def __init__(self, head: Head, store: Store, provider: str, views: Sequence[str] = ()) -> None:
        self.classes = tuple(str(name) for name in head.card.classes)
        self.task = head.card.task
        self.batch_size = BATCH_SIZES["cpu"]
        self._head, self._store, self._provider = head, store, provider
        self._views = tuple(views) or (IDENTITY,)
        held = {space.spec.id: space for space in store.spaces()}
        shown = [held[ref.id] for ref in head.card.spaces if ref.id in held]
        if views:
            self._looks = [[held[each] for each in _in_view(shown, view) if each in held] for view in self._views]
        else:
            self._looks = [shown]
        self._spaces = [space for look in self._looks for space in look]
        self._holds_all = len(self._spaces) == len(self._views) * len(head.card.spaces)
        self._lock = Lock()
        self._computer: _Computer | None = None

    def __call__(self, files: Sequence[ImageFile]) -> list[tuple[ImageFile, Found]]:
        """Returns the files in their order, each with what was found."""
        stored = self._look_up(files)
        known = {file for file, _ in stored}
        found: dict[ImageFile, Found] = {}
        for outcome in self._compute([file for file in files if file not in known]):
            found.update(outcome.failed)
            stored.extend(outcome.present)
            if outcome.extracted:
                features = [self._seen(outcome, view) for view in self._views]
                found.update(self._ask([file for file, _ in outcome.extracted], features))
        if stored:
            keys = key_array(key for _, key in stored)
            found.update(self._ask([file for file, _ in stored], [gather(look, keys) for look in self._looks]))
        return [(file, found[file]) for file in files]

    def _look_up(self, files: Sequence[ImageFile]) -> list[tuple[ImageFile, bytes]]:
        """Returns the files whose rows are held, by what the catalog knows of them without opening one."""
        stats = [FileStat(file.path, file.size, file.mtime_ns) for file in files]
        keys = self._store.catalog.files.known(stats)
        seen = [(file, key) for file, key in zip(files, keys, strict=True) if key is not None]
        present = self._is_present([key for _, key in seen])
        return [item for item, here in zip(seen, present, strict=True) if here]

    def _is_present(self, keys: Sequence[bytes]) -> list[bool]:
        if not self._holds_all:
            return [False] * len(keys)
        return [not lacks for lacks in missing_in_any(self._spaces, keys)]

    def _compute(self, files: Sequence[ImageFile]) -> Iterator[Outcome]:
        if not files:
            return iter(())
        with self._lock:
            if self._computer is None:
                backbone = backbone_of(self._store, self._head)
                session = Session(backbone, taps_of(self._head.card.spaces, backbone), provider=self._provider)
                self._computer = _Computer(session, backbone.card.preprocessing, self._is_present, self._views)
        return self._computer.outcomes(files)

    def _seen(self, outcome: Outcome, view: str) -> NDArray[np.float32]:
        """Returns the features of the images of an outcome in one view."""
        spaces = self._head.card.spaces
        return features_of({space.tap: outcome.rows[row_name(space.tap, view)] for space in spaces}, spaces)

    def _ask(
        self, files: Sequence[ImageFile], features: Sequence[NDArray[np.float32]]
    ) -> Iterator[tuple[ImageFile, Found]]:
        """Yields what the head says of the files, of which ``features`` has a matrix for each view."""
        sound = np.logical_and.reduce([np.isfinite(matrix).all(axis=1) for matrix in features])
        said = [probabilities_of(self._head, matrix[sound]) for matrix in features] if sound.any() else []
        rows = iter(mean_over_views(said)) if said else iter(())
        for file, is_sound in zip(files, sound, strict=True):
            yield file, next(rows) if is_sound else "its features are not finite in the precision of the space"


def _in_view(spaces: Sequence[Space], view: str) -> list[str]:
    """Returns the ids of the spaces that show a view of what ``spaces`` show."""
    return [replace(space.spec, view=view).id for space in spaces]


class _Computer:
    """Reads, decodes and runs files, one batch of the runner's size after the other."""

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
            f"The head {model!r} was given without its store" if isinstance(model, Head) else f"{model!r} is no file",
            expected="a model's file, or a head together with the store that it was trained on",
            remedy="give the store, or bundle the head",
        )
    opened = _open(store, model)
    return (model if isinstance(model, Head) else saved_head(opened, str(model))), opened


def _open(store: str | Path | Store, model: str | Path | Head) -> Store:
    try:
        return as_store(store)
    except MissingFileError:
        raise MissingFileError(
            f"{str(model)!r} is no file, and there is no store at {str(store)!r} that could hold a head of this name",
            expected="a model's file, or the name of a head in a store",
            remedy="look for a typo, or name the store with --store",
        ) from None


def _names_file(model: str | Path) -> bool:
    """Tells a model's file from a head's name: it exists, or is called as files are."""
    return isinstance(model, Path) or Path(model).is_file() or model.lower().endswith(".onnx")
