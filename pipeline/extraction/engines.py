"""Engines process the batches of a job: here the local engine, in `penult.pipeline.cluster` the one for Ray."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Protocol, Self

from penult.errors import MissingExtraError
from penult.exporters import Backbone
from penult.pipeline.extraction.interrupts import StopSignal
from penult.pipeline.extraction.options import ExtractOptions
from penult.pipeline.extraction.recorder import Recorder
from penult.pipeline.extraction.worker import Outcome
from penult.pipeline.extraction.worker_pool import WorkerPool
from penult.pipeline.extraction.writer import Writer
from penult.pipeline.images.image_file import ImageFile
from penult.store import Space, Store

# Loaded by name when used, because an engine may need another library and a package above this one.
ENGINES: dict[str, str] = {
    "local": "penult.pipeline.extraction.engines:LocalEngine",
    "ray": "penult.pipeline.cluster.engine:RayEngine",
}

# Seconds between two checks whether another job has committed the images that it claimed.
WAIT_SECONDS = 0.5

# Files that are claimed at a time.
CLAIM_FILES = 64


class Engine(Protocol):
    """Turns batches of files into rows of the spaces and reports the files to a recorder; a context manager.

    ``claim_files`` is the number of files to claim at a time.
    """

    claim_files: int

    def into_batches(self, files: Sequence[ImageFile]) -> Iterator[list[ImageFile]]:
        """Yields the files in batches of a suitable size."""

    def __enter__(self) -> Self:
        """Prepares the engine."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commits what was done and ends the engine."""

    def process(self, batches: Generator[list[ImageFile]], stop: StopSignal) -> None:
        """Processes all batches, or those before the stop signal.

        An empty batch means that other jobs have claimed all remaining files.
        """

    def commit_soon(self) -> None:
        """Commits pending rows soon, because other jobs wait for them."""


class LocalEngine:
    """Processes batches on the cores and GPUs of this machine."""

    def __init__(
        self, backbone: Backbone, _store: Store, spaces: dict[str, Space], options: ExtractOptions, recorder: Recorder
    ) -> None:
        self._pool, self._recorder = WorkerPool(backbone, spaces, options), recorder
        self._writer = Writer(spaces, overlap=self._pool.overlap)
        self.claim_files = max(CLAIM_FILES, self._pool.batch_files)
        receipt, choice = recorder.receipt, self._pool.choice
        receipt.provider, receipt.why_not_better, receipt.workers = choice.provider, choice.why, self._pool.workers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()
        self._commit()
        self._recorder.finish()

    def into_batches(self, files: Sequence[ImageFile]) -> Iterator[list[ImageFile]]:
        """Yields the files in batches for the worker pool."""
        return self._pool.into_batches(files)

    def process(self, batches: Generator[list[ImageFile]], stop: StopSignal) -> None:
        """Processes the batches with the threads of this process."""
        for outcome in self._pool.process(self._paced(batches), self._writer.is_present, lambda: stop.is_set):
            self._take(outcome)

    def _take(self, outcome: Outcome) -> None:
        self._recorder.count(self._writer.take(outcome))
        if self._writer.is_due:
            self._commit()

    def _paced(self, batches: Generator[list[ImageFile]]) -> Generator[list[ImageFile]]:
        with closing(batches):
            for batch in batches:
                yield batch
                if not batch:
                    self._commit()  # other jobs may wait for these rows
                    time.sleep(WAIT_SECONDS)

    def _commit(self) -> None:
        self._recorder.record(self._writer.commit())

    def commit_soon(self) -> None:
        """Commits soon."""
        self._writer.commit_soon()


def require_engine(name: str) -> None:
    """Raises MissingExtraError if the library of an engine is not installed."""
    if name == "ray" and find_spec("ray") is None:
        raise MissingExtraError.of("Ray", "ray", "--engine ray")


def start_engine(
    backbone: Backbone, store: Store, spaces: dict[str, Space], options: ExtractOptions, recorder: Recorder
) -> Engine:
    """Returns the engine that the options name."""
    module, _, name = ENGINES[options.engine].partition(":")
    made: Engine = getattr(import_module(module), name)(backbone, store, spaces, options, recorder)
    return made
