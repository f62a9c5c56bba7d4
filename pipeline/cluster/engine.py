"""The engine on a Ray cluster: actors carry chunks, and this driver hands them out and keeps the records.

Ray places the actors where there is room, asks its autoscaler for more, and tells when one is lost. The driver hands
each actor two chunks at most, one in its hands and one waiting, so a slow one is never flooded.
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
from penult.pipeline.cluster.actor import ActorInfo, ChunkResult, WorkerActor, actor_config
from penult.pipeline.cluster.chunks import TRIES, Chunk, Chunks
from penult.pipeline.cluster.connection import actor_capacity, actor_resources, connected, nodes, require_capacity
from penult.pipeline.cluster.nodes import require_same_versions
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
"""How long the driver waits for an actor before it looks whether it is to stop."""

STAFF_SECONDS = 5.0
"""How often it looks whether the cluster has grown."""

STARTS_IN_A_ROW = 5
LOSSES_IN_A_ROW = 24
"""How many actors may be lost, before they are ready or at work, without any that comes so far or ends a chunk."""


@dataclass(eq=False)
class ActorHandle:
    """An actor, and what it has in hand."""

    actor: Any
    opening: Any
    is_ready: bool = False
    in_hand: dict[Any, Chunk] = field(default_factory=dict)
    files_per_second: float = 0.0
    interval_seconds: float = FIRST_COMMIT_SECONDS

    @property
    def has_room(self) -> bool:
        """Whether it is to have another chunk: a suspect one is alone."""
        return len(self.in_hand) < CHUNKS_PER_ACTOR and not any(each.is_suspect for each in self.in_hand.values())

    def size(self, workers: int, most_seconds: float) -> int:
        """Returns how many files its next chunk is to have: few at first, then as many as fit between two commits."""
        if not self.files_per_second:
            return workers * BATCH_FILES
        return math.ceil(self.files_per_second * min(self.interval_seconds, most_seconds))


class RayEngine:
    """Carries with all nodes of a cluster."""

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
        self._staff_due = self._waiting_since = 0.0
        self._equipment = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        import ray

        self._stack.enter_context(connected(self._options.address))
        with ExitStack() as undo:
            undo.push(self._stack)
            self._demand = actor_resources(self._options, nodes())
            if not self._options.actors:
                require_capacity(self._demand, nodes(), self._options.decoders)
            duty = actor_config(*self._job, self._spaces, self._options, self._demand.cpus)
            # What an actor keeps is lost with it, and a new one knows no less: so Ray is not asked to restart any.
            self._class = ray.remote(WorkerActor).options(
                num_cpus=self._demand.cpus, num_gpus=self._demand.gpus, max_concurrency=CHUNKS_PER_ACTOR + 1
            )
            self._duty = ray.put(duty)
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
        """Makes chunks small, so that what others wait for is committed soon."""
        self._most_seconds = SHARED_COMMIT_SECONDS

    def process(self, batches: Generator[list[ImageFile]], stop: StopSignal) -> None:
        """Hands the batches out until all have come to their end."""
        chunks, is_told = Chunks(batches), False
        with closing(batches):
            while True:
                if not stop.is_set and not chunks.is_idle:
                    self._waiting_since = 0.0
                    self._staff()
                    self._hand_out(chunks)
                elif stop.is_set and not is_told:
                    is_told = True
                    for member in self._members:
                        member.actor.stop.remote()
                if not any(member.in_hand for member in self._members):
                    if stop.is_set or chunks.is_over:
                        return
                    if chunks.is_waiting:
                        self._make_room()
                        time.sleep(WAIT_SECONDS)
                        chunks.resume()
                        continue
                self._listen(chunks)

    def _left(self) -> int:
        in_hand = sum(len(chunk.files) for member in self._members for chunk in member.in_hand.values())
        return self._receipt.found - self._receipt.done - in_hand

    def _staff(self) -> None:
        """Starts as many actors as the cluster has room for, or as were asked for, and in place of each lost one."""
        if time.monotonic() >= self._staff_due:
            self._staff_due = time.monotonic() + STAFF_SECONDS
            room = actor_capacity(self._demand, nodes(), self._options.decoders)
            self._target = self._options.actors or max(room, self._target, 1)
        busy = sum(1 for member in self._members if member.in_hand)
        useful = busy + math.ceil(max(self._left(), 0) / BATCH_FILES)
        while len(self._members) < min(self._target, max(useful, 1)):
            actor = self._class.remote(self._duty)
            self._members.append(ActorHandle(actor, actor.open.remote()))

    def _make_room(self) -> None:
        """Ends the actors while all that is left is in the hands of other jobs, for these may need their place."""
        if self._members and not self._waiting_since:
            self._waiting_since = time.monotonic()
        elif self._members and time.monotonic() >= self._waiting_since + STAFF_SECONDS:
            while self._members:
                _end(self._members.pop())

    def _hand_out(self, chunks: Chunks) -> None:
        ready = [member for member in self._members if member.is_ready]
        for _ in range(CHUNKS_PER_ACTOR):
            for member in sorted(ready, key=lambda each: len(each.in_hand)):
                if not member.has_room:
                    continue
                share = math.ceil(self._left() / (CHUNKS_PER_ACTOR * len(self._members)))
                workers = self._options.decoders or self._demand.cpus
                size = min(member.size(workers, self._most_seconds), SHARD_ROWS, share)
                chunk = chunks.next(max(size, 1), is_alone=not member.in_hand)
                if chunk is None:
                    return
                member.in_hand[member.actor.process.remote(chunk.files)] = chunk
        if not ready:
            self._recorder.show(0, note=f"waiting for an actor with {self._demand}")

    def _listen(self, chunks: Chunks) -> None:
        """Waits for the next answers, and takes them."""
        import ray

        asked = {member.opening: member for member in self._members if not member.is_ready}
        asked |= {answer: member for member in self._members for answer in member.in_hand}
        if not asked:
            return
        answers, _ = ray.wait(list(asked), num_returns=1, timeout=TICK_SECONDS)
        for answer in answers:
            member = asked[answer]
            if member not in self._members:
                continue  # lost with what it had in hand
            try:
                told = ray.get(answer)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, ray.exceptions.RayError):
                    raise error.cause from None
                self._lose(member, chunks, str(error.cause))  # it lost what decodes for it
                continue
            except ray.exceptions.RayError as error:
                self._lose(member, chunks, str(error))
                continue
            if member.is_ready:
                self._take(member, member.in_hand.pop(answer), told)
            else:
                self._welcome(member, told)

    def _welcome(self, member: ActorHandle, ready: ActorInfo) -> None:
        receipt = self._receipt
        if receipt.provider and receipt.provider != ready.provider:
            raise EngineError(
                f"One node computes on {receipt.provider}, and another on {ready.provider}",
                expected="one provider on all, since their features differ in the last bits",
                remedy="say --provider cpu, or have --provider cuda tell what is missing",
            )
        require_same_versions(self._equipment or ready.library_versions, ready.library_versions)
        self._equipment = ready.library_versions
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
            # Two actors may have met the same bytes at the same time: their rows are alike, and one of them counts.
            again = len(commit.keys) - len(self._recent.fresh(commit.keys))
            report.tally.new, report.tally.reused = report.tally.new - again, report.tally.reused + again
            self._recorder.record(commit)
        self._recorder.count(report.tally)

    def _lose(self, member: ActorHandle, chunks: Chunks, reason: str) -> None:
        """Has the chunks of a lost actor done again, and records the images that are given up."""
        self._members.remove(member)
        _end(member)
        self._receipt.lost_actors += 1
        self._staff_due = 0.0
        if member.is_ready:
            self._losses += 1
        else:
            self._starts_lost += 1
        if self._losses >= LOSSES_IN_A_ROW or self._starts_lost >= STARTS_IN_A_ROW:
            raise EngineError(
                f"{max(self._losses, self._starts_lost)} actors in a row were lost: {' '.join(reason.split())}",
                expected="actors that live",
                remedy="look into Ray's logs of the node; perhaps its memory is full: fewer --workers take less",
            )
        for chunk in member.in_hand.values():
            for file in chunks.take_back(chunk):
                self._give_up(file)

    def _give_up(self, file: ImageFile) -> None:
        reason = f"{TRIES} processes in a row died while they worked on it alone"
        self._recorder.record(Commit([], [Failure(file.path, file.size, file.mtime_ns, reason)], [], 0, 0.0))
        self._recorder.count(Tally(failed=[(file.path, reason)]))


def _end(member: ActorHandle) -> None:
    import ray

    with suppress(Exception):  # whatever has become of it, it is not needed any more
        ray.kill(member.actor)
