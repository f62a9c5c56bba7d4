"""A pool of worker threads that share one session and one set of decoder processes."""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing

from penult.cores import worker_count
from penult.exporters import Backbone
from penult.pipeline.extraction.interrupts import WORKERS
from penult.pipeline.extraction.options import ExtractOptions
from penult.pipeline.extraction.worker import Outcome, Presence, Stopped, Worker
from penult.pipeline.images.decode import DecodeLimits
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.runtime.session import Session
from penult.store import Space

# Files per batch, and batches in flight per worker: one in work and one waiting.
BATCH_FILES = 16
IN_FLIGHT = 2

# A batch of more bytes gets no further file: a last batch of large images would leave other workers idle. On a GPU
# there is no such limit, because a partly filled batch costs as much as a full one.
BATCH_BYTES = 4 << 20

# How many batches may begin, and so perhaps end, while one that began before them is still under way.
OVERTAKING = 4096

TICK_SECONDS = 0.5
"""Seconds between two checks of the stop signal while waiting for a batch."""

STOP_SECONDS = 5.0
"""Seconds that running images get to finish after a stop."""


class WorkerPool:
    """Processes batches for any number of callers at once."""

    def __init__(
        self, backbone: Backbone, spaces: dict[str, Space], options: ExtractOptions, *, kind: type[Worker] = Worker
    ) -> None:
        taps = list(dict.fromkeys(space.spec.tap for space in spaces.values()))
        views = list(dict.fromkeys(space.spec.view for space in spaces.values()))
        session = Session(backbone, taps, provider=options.provider, batch_size=options.batch_size)
        limits = DecodeLimits(options.image_seconds, options.image_megabytes)
        self._worker = kind(session, backbone.card.preprocessing, options.dtype, limits, views)
        self.choice = session.choice
        self.workers = options.workers or worker_count()
        self.batch_files = max(BATCH_FILES, session.batch_size)
        self._batch_bytes = math.inf if session.choice.on_gpu else BATCH_BYTES
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix=WORKERS)
        self._is_left = False

    @property
    def overlap(self) -> int:
        """How many other batches may end between the start and the end of one batch."""
        return IN_FLIGHT * self.workers + OVERTAKING

    def into_batches(self, files: Sequence[ImageFile]) -> Iterator[list[ImageFile]]:
        """Yields the files in batches for `process`."""
        return file_batches(files, self.batch_files, self._batch_bytes)

    def process(
        self, batches: Generator[list[ImageFile]], is_present: Presence, is_stopped: Stopped
    ) -> Iterator[Outcome]:
        """Yields the outcome of each batch as it ends; at an empty batch, all earlier ones end first.

        After a stop, no further batch or image starts, and images that do not end in time are abandoned.
        """
        begun: dict[Future[Outcome], int] = {}  # the number of each batch
        with closing(batches):
            for number, batch in enumerate(batches):
                if batch:
                    begun[self._threads.submit(self._worker, batch, is_present, is_stopped)] = number
                while begun and not is_stopped() and (not batch or self._is_full(begun, number)):
                    yield from _ended(begun)
                if is_stopped():
                    break
        stop_by = math.inf
        while begun and time.monotonic() < stop_by + STOP_SECONDS:
            yield from _ended(begun)
            if is_stopped():
                stop_by = min(stop_by, time.monotonic() + STOP_SECONDS)
            if time.monotonic() >= stop_by:
                self._worker.stop()
        self._is_left = bool(begun)  # blocked on a server that does not answer

    def _is_full(self, begun: dict[Future[Outcome], int], number: int) -> bool:
        return len(begun) >= IN_FLIGHT * self.workers or number - next(iter(begun.values())) >= OVERTAKING

    def close(self) -> None:
        """Waits for running batches, unless abandoned, drops waiting ones, and ends the decoders."""
        self._threads.shutdown(wait=not self._is_left, cancel_futures=True)
        self._worker.close()


def _ended(begun: dict[Future[Outcome], int]) -> Iterator[Outcome]:
    """Removes and yields finished batches, after waiting at most `TICK_SECONDS`."""
    done, _ = wait(begun, TICK_SECONDS, FIRST_COMPLETED)
    for future in done:
        del begun[future]
        yield future.result()


def file_batches(files: Sequence[ImageFile], size: int, most_bytes: float = BATCH_BYTES) -> Iterator[list[ImageFile]]:
    """Yields the files in order, in batches of at most ``size`` files and ``most_bytes``, but at least one file."""
    batch: list[ImageFile] = []
    for file in files:
        if batch and (len(batch) >= size or sum(each.size for each in batch) + file.size > most_bytes):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch
