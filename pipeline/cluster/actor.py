"""The actor of Ray: a crew on some node, which turns chunks of files into committed shards.

Each call is whole: when it returns, its rows are durable, and nothing of it is kept. So an actor that is lost costs
the chunks that it had in hand, and no more. Only the driver writes the catalog, the manifests and the receipt.
"""

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import penult
from penult.errors import EngineError
from penult.exporters import load_backbone
from penult.pipeline.cluster.nodes import library_versions, naming_the_node, require_image_folder
from penult.pipeline.extraction.options import ExtractOptions
from penult.pipeline.extraction.worker import Worker
from penult.pipeline.extraction.worker_pool import WorkerPool
from penult.pipeline.extraction.writer import Commit, Tally, Writer
from penult.pipeline.images.image_file import ImageFile
from penult.store import open_store


@dataclass(frozen=True)
class ActorConfig:
    """What every actor of a job is told: the store as all nodes see it, its spaces by the names of rows, and how."""

    store: str
    backbone: str
    fingerprint: str
    spaces: dict[str, str]
    options: ExtractOptions
    version: str = penult.__version__


@dataclass(frozen=True)
class ActorInfo:
    """What an actor has found where it runs."""

    provider: str
    why_not_better: str
    workers: int
    library_versions: str = ""


@dataclass
class ChunkResult:
    """What became of a chunk: what was counted and committed, and how long the crew was at it."""

    tally: Tally = field(default_factory=Tally)
    commits: list[Commit] = field(default_factory=list)
    seconds: float = 0.0


class WorkerActor:
    """One crew; its methods are called from several threads, so that the next chunk begins as the last one ends."""

    def __init__(self, duty: ActorConfig) -> None:
        self._duty = duty
        self._turn = threading.Lock()
        self._is_stopped = self._has_looked = False

    def open(self) -> ActorInfo:
        """Opens store and session, or raises what stands in the way."""
        with naming_the_node():
            return self._open()

    def _open(self) -> ActorInfo:
        duty = self._duty
        if duty.version != penult.__version__:
            raise EngineError(
                f"A node of the cluster has penult {penult.__version__}, and the driver {duty.version}",
                expected="one version on all",
                remedy="install the same on all nodes",
            )
        store = open_store(duty.store, create=False)
        backbone = load_backbone(store.backbone_path(duty.backbone, duty.fingerprint))
        found = {space.spec.id: space for space in store.spaces()}
        if missing := set(duty.spaces.values()).difference(found):
            raise EngineError(
                f"The store {duty.store} of a node lacks the space {min(missing)}",
                expected="the store that the driver has opened",
                remedy="mount one file system at this place on all nodes",
            )
        self._spaces = {name: found[space] for name, space in duty.spaces.items()}
        self._pool = WorkerPool(backbone, self._spaces, duty.options, kind=_kind_of_worker(duty.options))
        return ActorInfo(self._pool.choice.provider, self._pool.choice.why, self._pool.workers, library_versions())

    def process(self, files: Sequence[ImageFile]) -> ChunkResult:
        """Brings the files to an end and commits their rows, or those of as many as were begun when it was stopped."""
        with naming_the_node():
            if not self._has_looked and self._duty.options.decoders is None:
                require_image_folder(files)
                self._has_looked = True
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
        # Held until the last batch is taken, while others of the chunk are still under way: then the next one begins.
        with self._turn:
            report.seconds -= perf_counter()
            yield from self._pool.into_batches(files)

    def stop(self) -> None:
        """Has the chunks in hand end with the batches that are begun."""
        self._is_stopped = True


def _kind_of_worker(options: ExtractOptions) -> type[Worker]:
    if options.decoders is None:
        return Worker
    from penult.pipeline.cluster.decoding import RemoteDecodingWorker

    return RemoteDecodingWorker


def actor_config(
    store: str, backbone: tuple[str, str], spaces: dict[str, str], options: ExtractOptions, cpus: int
) -> ActorConfig:
    """Returns the duty of actors with so many cores each, and as many workers, or as many as have others decode."""
    return ActorConfig(store, *backbone, spaces, replace(options, workers=options.decoders or cpus, metrics=None))
