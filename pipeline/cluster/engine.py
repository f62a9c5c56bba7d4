"""The engine for a Ray cluster: actors process chunks; this driver distributes them and records the results.

Ray places the actors, asks its autoscaler for more nodes, and reports lost actors. Each actor has at most two chunks,
one in work and one waiting, so a slow actor is never overloaded.
"""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from penult.errors import EngineError
from penult.exporters import Backbone
from penult.pipeline.cluster.actor import ActorInfo, ChunkResult, WorkerActor, actor_config, require_same_versions
from penult.pipeline.cluster.chunks import TRIES, Chunk, Chunks
from penult.pipeline.cluster.connection import actor_capacity, actor_resources, connected, nodes, require_capacity
from penult.pipeline.extraction.engines import WAIT_SECONDS
from penult.pipeline.extraction.interrupts import StopSignal
from penult.pipeline.extraction.options import ExtractOptions
from penult.pipeline.extraction.recorder import Recorder
from penult.pipeline.extraction.worker_pool import BATCH_FILES, file_batches
from penult.pipeline.extraction.writer import (
    FIRST_COMMIT_SECONDS,
    LAST_COMMIT_SECONDS,
    SHARD_ROWS,
    SHARED_COMMIT_SECONDS,
    Commit,
    RecentKeys,
    Tally,
)
from penult.pipeline.images.image_file import ImageFile
from penult.store import Space, Store
from penult.store.catalog.ledger import Failure

CLAIM_FILES = 1024

CHUNKS_PER_ACTOR = 2

TICK_SECONDS = 0.5
"""Seconds between two checks of the stop signal while waiting for an actor."""

CHECK_SECONDS = 5.0
"""Seconds between two checks whether the cluster has grown."""

STARTS_IN_A_ROW = 5
LOSSES_IN_A_ROW = 24
"""How many actors may be lost in a row, at their start or at work."""


@dataclass(eq=False)
class ActorHandle:
    """An actor and its current chunks."""

    actor: Any
    opening: Any
    is_ready: bool = False
    running: dict[Any, Chunk] = field(default_factory=dict)
    files_per_second: float = 0.0
    interval_seconds: float = FIRST_COMMIT_SECONDS

    @property
    def has_room(self) -> bool:
        """Whether the actor may get another chunk: a suspect chunk runs alone."""
        return len(self.running) < CHUNKS_PER_ACTOR and not any(each.is_suspect for each in self.running.values())

    def size(self, workers: int, most_seconds: float) -> int:
        """Returns the size of the next chunk: few files at first, then as many as fit between two commits."""
        if not self.files_per_second:
            return workers * BATCH_FILES
        return math.ceil(self.files_per_second * min(self.interval_seconds, most_seconds))


class RayEngine:
    """Processes batches on all nodes of a cluster."""

    claim_files = CLAIM_FILES

    def __init__(
        self, backbone: Backbone, store: Store, spaces: dict[str, Space], options: ExtractOptions, recorder: Recorder
    ) -> None:
        self._options, self._recorder, self._receipt = options, recorder, recorder.receipt
        self._job = (store.address, (backbone.name, backbone.fingerprint))
        self._spaces = {name: space.spec.id for name, space in spaces.items()}
        self._members: list[ActorHandle] = []
        self._most_seconds = LAST_COMMIT_SECONDS
        self._recent = RecentKeys(0)
        self._target = self._starts_lost = self._losses = 0
        self._next_check = self._waiting_since = 0.0
        self._versions = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        import ray

        self._stack.enter_context(connected(self._options.address))
        with ExitStack() as undo:
            undo.push(self._stack)
            self._demand = actor_resources(self._options, nodes())
            if not self._options.actors:
                require_capacity(self._demand, nodes(), self._options.decoders)
            config = actor_config(*self._job, self._spaces, self._options, self._demand.cpus)
            # Ray does not restart actors: an actor keeps no state, so the driver starts a new one instead.
            self._class = ray.remote(WorkerActor).options(
                num_cpus=self._demand.cpus, num_gpus=self._demand.gpus, max_concurrency=CHUNKS_PER_ACTOR + 1
            )
            self._config = ray.put(config)
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            for member in self._members:
                _end(member)
            self._recorder.finish()

    def into_batches(self, files: Sequence[ImageFile]) -> Iterator[list[ImageFile]]:
        """Yields batches that chunks are made of."""
        return file_batches(files, BATCH_FILES)

    def commit_soon(self) -> None:
        """Makes chunks small, because other jobs wait for their rows."""
        self._most_seconds = SHARED_COMMIT_SECONDS

    def process(self, batches: Generator[list[ImageFile]], stop: StopSignal) -> None:
        """Distributes the batches until all have a result."""
        chunks, is_announced = Chunks(batches), False
        with closing(batches):
            while True:
                if not stop.is_set and not chunks.is_idle:
                    self._waiting_since = 0.0
                    self._start_actors()
                    self._distribute(chunks)
                elif stop.is_set and not is_announced:
                    is_announced = True
                    for member in self._members:
                        member.actor.stop.remote()
                if not any(member.running for member in self._members):
                    if stop.is_set or chunks.is_over:
                        return
                    if chunks.is_waiting:
                        self._free_resources()
                        time.sleep(WAIT_SECONDS)
                        chunks.resume()
                        continue
                self._collect(chunks)

    def _left(self) -> int:
        running = sum(len(chunk.files) for member in self._members for chunk in member.running.values())
        return self._receipt.found - self._receipt.done - running

    def _start_actors(self) -> None:
        """Starts as many actors as fit or as requested, and replaces lost ones."""
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + CHECK_SECONDS
            room = actor_capacity(self._demand, nodes(), self._options.decoders)
            self._target = self._options.actors or max(room, self._target, 1)
        busy = sum(1 for member in self._members if member.running)
        useful = busy + math.ceil(max(self._left(), 0) / BATCH_FILES)
        while len(self._members) < min(self._target, max(useful, 1)):
            actor = self._class.remote(self._config)
            self._members.append(ActorHandle(actor, actor.open.remote()))

    def _free_resources(self) -> None:
        """Ends the actors while other jobs have claimed all remaining files, because those may need the resources."""
        if self._members and not self._waiting_since:
            self._waiting_since = time.monotonic()
        elif self._members and time.monotonic() >= self._waiting_since + CHECK_SECONDS:
            while self._members:
                _end(self._members.pop())

    def _distribute(self, chunks: Chunks) -> None:
        ready = [member for member in self._members if member.is_ready]
        for _ in range(CHUNKS_PER_ACTOR):
            for member in sorted(ready, key=lambda each: len(each.running)):
                if not member.has_room:
                    continue
                share = math.ceil(self._left() / (CHUNKS_PER_ACTOR * len(self._members)))
                workers = self._options.decoders or self._demand.cpus
                size = min(member.size(workers, self._most_seconds), SHARD_ROWS, share)
                chunk = chunks.next(max(size, 1), is_alone=not member.running)
                if chunk is None:
                    return
                member.running[member.actor.process.remote(chunk.files)] = chunk
        if not ready:
            self._recorder.show(0, note=f"waiting for an actor with {self._demand}")

    def _collect(self, chunks: Chunks) -> None:
        """Waits for the next results and processes them."""
        import ray

        asked = {member.opening: member for member in self._members if not member.is_ready}
        asked |= {answer: member for member in self._members for answer in member.running}
        if not asked:
            return
        answers, _ = ray.wait(list(asked), num_returns=1, timeout=TICK_SECONDS)
        for answer in answers:
            member = asked[answer]
            if member not in self._members:
                continue  # lost meanwhile
            try:
                result = ray.get(answer)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, ray.exceptions.RayError):
                    raise error.cause from None
                self._lose(member, chunks, str(error.cause))  # its decoding task was lost
                continue
            except ray.exceptions.RayError as error:
                self._lose(member, chunks, str(error))
                continue
            if member.is_ready:
                self._take(member, member.running.pop(answer), result)
            else:
                self._accept(member, result)

    def _accept(self, member: ActorHandle, ready: ActorInfo) -> None:
        receipt = self._receipt
        if receipt.provider and receipt.provider != ready.provider:
            raise EngineError(
                f"One node computes on {receipt.provider} and another on {ready.provider}",
                expected="one provider on all nodes, because features differ in the last bits",
                remedy="use --provider cpu, or run with --provider cuda to see what is missing",
            )
        require_same_versions(self._versions or ready.library_versions, ready.library_versions)
        self._versions = ready.library_versions
        receipt.provider, receipt.why_not_better, receipt.workers = ready.provider, ready.why_not_better, ready.workers
        member.is_ready, self._starts_lost = True, 0
        count = sum(1 for each in self._members if each.is_ready)
        if count > receipt.actors:
            receipt.actors = count
            self._recent.keep(CHUNKS_PER_ACTOR * count)

    def _take(self, member: ActorHandle, chunk: Chunk, report: ChunkResult) -> None:
        self._losses = 0
        member.files_per_second = len(chunk.files) / max(report.seconds, 1e-3)
        member.interval_seconds = min(2 * member.interval_seconds, LAST_COMMIT_SECONDS)
        for commit in report.commits:
            # Two actors may have processed the same sample at the same time: the rows are equal, and one counts.
            again = len(commit.keys) - len(self._recent.fresh(commit.keys))
            report.tally.new, report.tally.reused = report.tally.new - again, report.tally.reused + again
            self._recorder.record(commit)
        self._recorder.count(report.tally)

    def _lose(self, member: ActorHandle, chunks: Chunks, reason: str) -> None:
        """Queues the chunks of a lost actor again, and records the images that are given up."""
        self._members.remove(member)
        _end(member)
        self._receipt.lost_actors += 1
        self._next_check = 0.0
        if member.is_ready:
            self._losses += 1
        else:
            self._starts_lost += 1
        if self._losses >= LOSSES_IN_A_ROW or self._starts_lost >= STARTS_IN_A_ROW:
            raise EngineError(
                f"{max(self._losses, self._starts_lost)} actors in a row were lost: {' '.join(reason.split())}",
                expected="running actors",
                remedy="read Ray's logs of the node; if its memory is full, use fewer --workers",
            )
        for chunk in member.running.values():
            for file in chunks.take_back(chunk):
                self._give_up(file)

    def _give_up(self, file: ImageFile) -> None:
        reason = f"{TRIES} processes in a row died while they worked on it alone"
        self._recorder.record(Commit([], [Failure(file.path, file.size, file.mtime_ns, reason)], [], 0, 0.0))
        self._recorder.count(Tally(failed=[(file.path, reason)]))


def _end(member: ActorHandle) -> None:
    import ray

    with suppress(Exception):  # it may be dead already
        ray.kill(member.actor)
