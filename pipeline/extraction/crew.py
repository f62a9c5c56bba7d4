"""A crew: what one process needs to carry loads, made once: the session, the decoders, and as many threads as cores."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from penult.exporters import Backbone
from penult.pipeline.extraction.cores import worker_count
from penult.pipeline.extraction.decode_limits import DecodeLimits
from penult.pipeline.extraction.images import ImageFile
from penult.pipeline.extraction.options import ExtractOptions
from penult.pipeline.extraction.session import Session
from penult.pipeline.extraction.worker import Outcome, Presence, Worker
from penult.store import Space

# How many files a worker takes at a time (in batches of the session), and how many such loads are under way for each
# worker: one in its hands and one waiting.
LOAD_FILES = 16
IN_FLIGHT = 2

# Beyond so many bytes a load takes no further file, since the last loads of large images would leave workers idle.
LOAD_BYTES = 4 << 20


class Crew:
    """Carries loads for any number of callers at once."""

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
        self.load_files = max(LOAD_FILES, session.batch_size)
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="penult-worker")

    @property
    def in_flight(self) -> int:
        """How many loads are under way at once."""
        return IN_FLIGHT * self.workers

    def carry(
        self, loads: Generator[list[ImageFile]], is_present: Presence, is_stopped: Callable[[], bool]
    ) -> Iterator[Outcome]:
        """Yields what becomes of each load, in their order; where one is empty, all before it come to their end first.

        Once it is to stop, it takes no further load, and those under way come to their end.
        """
        waiting: deque[Future[Outcome]] = deque()
        with closing(loads):
            for load in loads:
                if load:
                    waiting.append(self._pool.submit(self._worker, load, is_present))
                while waiting and (not load or len(waiting) >= self.in_flight):
                    yield waiting.popleft().result()
                if is_stopped():
                    break
        while waiting:
            yield waiting.popleft().result()

    def close(self) -> None:
        """Lets the loads in hand end, drops those that wait, and ends the decoders."""
        self._pool.shutdown(cancel_futures=True)
        self._worker.close()


def in_loads(files: Sequence[ImageFile], size: int) -> Iterator[list[ImageFile]]:
    """Yields the files in their order in loads of at most ``size``, and of few bytes, but of one file at least."""
    load: list[ImageFile] = []
    for file in files:
        if load and (len(load) >= size or sum(each.size for each in load) + file.size > LOAD_BYTES):
            yield load
            load = []
        load.append(file)
    if load:
        yield load
