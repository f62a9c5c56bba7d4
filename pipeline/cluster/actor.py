"""The Ray actor: a worker pool on one node, which turns chunks of files into committed shards.

When a call returns, its rows are durable and the actor keeps nothing of it. So a lost actor costs only its current
chunks. Only the driver writes the catalog, the manifests and the receipt.

With the option ``decoders``, the actor only runs the backbone, for example on one of few GPUs. Ray tasks read and
decode its files on any node and return the pixels through the object store. Each worker has one task at a time, so that
few decoded images wait.
"""

import platform
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import penult
from penult.errors import EngineError, PenultError
from penult.exporters import load_backbone
from penult.exporters.card import Preprocessing
from penult.pipeline.extraction.options import ExtractOptions
from penult.pipeline.extraction.worker import (
    BatchReader,
    DecodedFile,
    Outcome,
    Presence,
    Stopped,
    Worker,
    drop_present,
    never,
)
from penult.pipeline.extraction.worker_pool import WorkerPool
from penult.pipeline.extraction.writer import Commit, Tally, Writer
from penult.pipeline.images.decode import DecodeLimits
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.views import IDENTITY
from penult.pipeline.runtime.session import GraphRunner
from penult.store import open_store

RETRIES = 1
"""How often Ray repeats a decoding task whose process or node was lost; then the actor's chunk is repeated."""


@dataclass(frozen=True)
class ActorConfig:
    """The configuration of all actors of a job; ``spaces`` maps row names to ids of spaces."""

    store: str
    backbone: str
    fingerprint: str
    spaces: dict[str, str]
    options: ExtractOptions
    version: str = penult.__version__


@dataclass(frozen=True)
class ActorInfo:
    """What an actor reports about its node."""

    provider: str
    why_not_better: str
    workers: int
    library_versions: str = ""


@dataclass
class ChunkResult:
    """The counts, the commits and the time of one chunk."""

    tally: Tally = field(default_factory=Tally)
    commits: list[Commit] = field(default_factory=list)
    seconds: float = 0.0


class WorkerActor:
    """A worker pool as a Ray actor; thread-safe, so that the next chunk starts while the last one ends."""

    def __init__(self, config: ActorConfig) -> None:
        self._config = config
        self._turn = threading.Lock()
        self._is_stopped = self._has_checked = False

    def open(self) -> ActorInfo:
        """Opens the store and the session."""
        with naming_the_node():
            return self._open()

    def _open(self) -> ActorInfo:
        config = self._config
        if config.version != penult.__version__:
            raise EngineError(
                f"A node of the cluster has penult {penult.__version__}, and the driver has {config.version}",
                expected="the same version on all nodes",
                remedy="install the same version on all nodes",
            )
        store = open_store(config.store, create=False)
        backbone = load_backbone(store.backbone_path(config.backbone, config.fingerprint))
        found = {space.spec.id: space for space in store.spaces()}
        if missing := set(config.spaces.values()).difference(found):
            raise EngineError(
                f"The store {config.store} on a node has no space {min(missing)}",
                expected="the store that the driver opened",
                remedy="mount the same file system at this path on all nodes",
            )
        self._spaces = {name: found[space] for name, space in config.spaces.items()}
        self._pool = WorkerPool(
            backbone,
            self._spaces,
            config.options,
            kind=Worker if config.options.decoders is None else RemoteDecodingWorker,
        )
        return ActorInfo(self._pool.choice.provider, self._pool.choice.why, self._pool.workers, library_versions())

    def process(self, files: Sequence[ImageFile]) -> ChunkResult:
        """Processes the files and commits their rows; after `stop`, only those that were started."""
        with naming_the_node():
            if not self._has_checked and self._config.options.decoders is None:
                require_image_folder(files)
                self._has_checked = True
            return self._process(files)

    def _process(self, files: Sequence[ImageFile]) -> ChunkResult:
        writer, report = Writer(self._spaces, overlap=self._pool.overlap), ChunkResult()
        for outcome in self._pool.process(self._in_turn(files, report), writer.is_present, lambda: self._is_stopped):
            report.tally.add(writer.take(outcome))
            if writer.is_full:
                report.commits.append(writer.commit())
        report.seconds += perf_counter()
        report.commits.append(writer.commit())
        return report

    def _in_turn(self, files: Sequence[ImageFile], report: ChunkResult) -> Generator[list[ImageFile]]:
        # Held until the last batch of the chunk is taken; then the next chunk starts while those batches still run.
        with self._turn:
            report.seconds -= perf_counter()
            yield from self._pool.into_batches(files)

    def stop(self) -> None:
        """Ends the current chunks after the batches that were started."""
        self._is_stopped = True


def actor_config(
    store: str, backbone: tuple[str, str], spaces: dict[str, str], options: ExtractOptions, cpus: int
) -> ActorConfig:
    """Returns the configuration of actors with ``cpus`` cores; with ``decoders``, that is the number of workers."""
    return ActorConfig(store, *backbone, spaces, replace(options, workers=options.decoders or cpus, metrics=None))


class RemoteDecodingWorker(Worker):
    """A worker whose files are read and decoded by Ray tasks."""

    def __init__(
        self,
        session: GraphRunner,
        preprocessing: Preprocessing,
        dtype: str,
        limits: DecodeLimits | None = None,
        views: Sequence[str] = (IDENTITY,),
    ) -> None:
        import ray

        super().__init__(session, preprocessing, dtype, limits, views)
        self._task = ray.remote(read_and_decode_task).options(num_cpus=1, max_retries=RETRIES)
        self._settings = ray.put((preprocessing, limits or DecodeLimits(), library_versions()))

    def read_and_decode(
        self, files: Sequence[ImageFile], is_present: Presence, is_stopped: Stopped = never
    ) -> tuple[Outcome, list[DecodedFile]]:
        """Returns the files that already have a result, and the pixels of all others; a task is not interrupted."""
        import ray

        try:
            outcome, decoded = ray.get(self._task.remote(self._settings, list(files)))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        # The tasks have no access to the store, so present images are dropped here.
        return outcome, drop_present(decoded, is_present, outcome)


def read_and_decode_task(settings: tuple[Preprocessing, DecodeLimits, str], files: Sequence[ImageFile]) -> Any:
    """Reads and decodes files in a process of any node."""
    *how, expected = settings
    with naming_the_node():
        require_same_versions(expected, library_versions())
        require_image_folder(files)
        return _reader_for(*how).read_and_decode(files, lambda keys: [False] * len(keys))


@cache
def _reader_for(preprocessing: Preprocessing, limits: DecodeLimits) -> BatchReader:
    return BatchReader(preprocessing, limits)


def library_versions() -> str:
    """Returns the versions of the libraries on which the last bits of a feature depend."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__} and Pillow {version('pillow')}"


def require_same_versions(expected: str, found: str) -> None:
    """Raises EngineError if nodes would produce features that differ in the last bits."""
    if expected != found:
        raise EngineError(
            f"One node has {expected}, and another has {found}",
            expected="the same versions, because features differ in their last bits",
            remedy="install the same versions on all nodes",
        )


def require_image_folder(files: Sequence[ImageFile]) -> None:
    """Raises EngineError if this node lacks the folder of the first plain file.

    Otherwise every file would end in the ledger.
    """
    plain = next((file for file in files if file.reader is None), None)
    if plain is not None and not Path(plain.path).parent.is_dir():
        raise EngineError(
            f"There is no folder {Path(plain.path).parent}, where the driver found images",
            expected="one file system with the images, at the same path on all nodes",
            remedy="mount it there, or use a URL that all nodes reach; then run the job again",
        )


@contextmanager
def naming_the_node() -> Iterator[None]:
    """Adds the node's name to a PenultError."""
    try:
        yield
    except PenultError as error:
        raise type(error)(f"On the node {platform.node()}: {error}") from error
