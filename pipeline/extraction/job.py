"""One run of the batch job: known files are counted, others go to the workers, and their outcomes to the writer."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import chain, islice

from penult.errors import ImageError, StoreWriteError
from penult.exporters import Backbone
from penult.pipeline.extraction.claims import Claims
from penult.pipeline.extraction.collector import paused_collector
from penult.pipeline.extraction.cores import worker_count
from penult.pipeline.extraction.decode_limits import DecodeLimits
from penult.pipeline.extraction.images import ImageFile
from penult.pipeline.extraction.interrupts import Stop, stop_when_interrupted
from penult.pipeline.extraction.metrics import Metrics
from penult.pipeline.extraction.options import ExtractOptions
from penult.pipeline.extraction.receipt import Receipt
from penult.pipeline.extraction.session import Session
from penult.pipeline.extraction.worker import Outcome, Worker
from penult.pipeline.extraction.writer import Writer, missing_somewhere
from penult.pipeline.progress import Task
from penult.store import Space, Store

# How many files are looked up in the catalog at once, and how many are claimed at once.
LOOK_UP_FILES = 8_192
CLAIM_FILES = 64

# How many files a worker takes at a time (in batches of the session), and how many such loads are under way for each
# worker: one in its hands and one waiting.
LOAD_FILES = 16
IN_FLIGHT = 2

# Beyond so many bytes a load takes no further file, since the last loads of large images would leave workers idle.
LOAD_BYTES = 4 << 20

# How long to wait before asking again whether another job has committed what it has claimed.
WAIT_SECONDS = 0.5


class Job:
    """One run, from one thread; the receipt is filled and the task advanced as it goes."""

    def __init__(
        self, store: Store, spaces: dict[str, Space], options: ExtractOptions, receipt: Receipt, task: Task
    ) -> None:
        self._store, self._spaces, self._options, self._receipt, self._task = store, spaces, options, receipt, task
        self._workers = options.workers or worker_count()
        self._writer = Writer(spaces, store.catalog, receipt, in_flight=IN_FLIGHT * self._workers)
        self._metrics = Metrics(options.metrics)

    def run(self, backbone: Backbone, files: Sequence[ImageFile]) -> None:
        """Brings every file to an end; the session is opened only if there is work for it."""
        with stop_when_interrupted(self._options.max_seconds) as stop:
            try:
                self._tell(0)
                unknown = self._unknown(files, stop)
                first = list(islice(unknown, 1))
                if first:
                    self._require_writable()
                    self._work(backbone, chain(first, unknown), stop)
                self._receipt.is_complete = not stop.is_asked or self._receipt.done == len(files)
            finally:
                self._metrics.tell(self._receipt.now(), is_over=True)
            if not self._receipt.is_complete:
                self._receipt.stopped = stop.reason

    def _require_writable(self) -> None:
        catalog = self._store.catalog
        if catalog.readonly:
            raise StoreWriteError(
                f"There are new images, and the store cannot be written: {'; '.join(catalog.notes)}",
                expected="a store that may be written, or no new images",
                remedy="ask its owner for the right to write, or copy the store",
            )

    def _unknown(self, files: Sequence[ImageFile], stop: Stop) -> Iterator[ImageFile]:
        """Yields the files that must be opened, and counts those whose end is known already."""
        for start in range(0, len(files), LOOK_UP_FILES):
            for file in self._look_up(files[start : start + LOOK_UP_FILES]):
                if stop.is_asked:
                    return
                yield file

    @paused_collector()
    def _look_up(self, files: Sequence[ImageFile]) -> list[ImageFile]:
        """Returns those of the files whose end is not known, and counts the others."""
        catalog, spaces = self._store.catalog, list(self._spaces.values())
        keys = [None] * len(files) if self._options.rehash else catalog.files.known(files)
        missing = iter(missing_somewhere(spaces, [key for key in keys if key is not None]))
        retry = self._options.retry_failed or self._options.rehash
        reasons = [None] * len(files) if retry else catalog.ledger.known(files)
        unknown = []
        for file, key, reason in zip(files, keys, reasons, strict=True):
            if key is not None and not next(missing):
                self._receipt.reused += 1
            elif reason is not None:
                self._refuse_if_strict(file, reason)
                self._receipt.failed += 1
            else:
                unknown.append(file)
        self._tell(len(files) - len(unknown))
        return unknown

    def _loads(self, files: Iterator[ImageFile], claims: Claims, stop: Stop, size: int) -> Iterator[list[ImageFile]]:
        """Yields loads of files that no other job works on; an empty one where there is only waiting for others."""
        held: list[ImageFile] = []
        while chunk := list(islice(files, max(CLAIM_FILES, size))):
            mine, theirs = self._claim(chunk, claims)
            yield from in_loads(mine, size)
            held += theirs
        while held and not stop.is_asked:
            still: list[ImageFile] = []
            for start in range(0, len(held), LOOK_UP_FILES):
                mine, theirs = self._claim(self._look_up(held[start : start + LOOK_UP_FILES]), claims)
                yield from in_loads(mine, size)
                still += theirs
            held = still
            if held:
                yield []

    def _claim(self, files: Sequence[ImageFile], claims: Claims) -> tuple[list[ImageFile], list[ImageFile]]:
        """Returns which of the files this job is to do now, and which another one has in hand."""
        granted = claims.take([file.path for file in files])
        mine = [file for file, is_mine in zip(files, granted, strict=True) if is_mine]
        if claims.has_company:
            self._writer.hasten()
        # Another job may have committed some of them since they were looked up, and let go of them.
        unknown = self._look_up(mine)
        claims.let_go({file.path for file in mine}.difference(file.path for file in unknown))
        return unknown, [file for file, is_mine in zip(files, granted, strict=True) if not is_mine]

    def _work(self, backbone: Backbone, files: Iterator[ImageFile], stop: Stop) -> None:
        taps = list(dict.fromkeys(space.spec.tap for space in self._spaces.values()))
        views = list(dict.fromkeys(space.spec.view for space in self._spaces.values()))
        session = Session(backbone, taps, provider=self._options.provider, batch_size=self._options.batch_size)
        limits = DecodeLimits(self._options.image_seconds, self._options.image_megabytes)
        worker = Worker(session, backbone.card.preprocessing, self._options.dtype, self._is_present, limits, views)
        self._receipt.provider, self._receipt.why_not_better = session.choice.provider, session.choice.why
        self._receipt.workers = self._workers
        scope = ",".join(sorted(space.spec.id for space in self._spaces.values()))
        with (
            closing(worker),
            Claims(self._store.path, scope) as claims,
            ThreadPoolExecutor(self._workers, thread_name_prefix="penult-worker") as pool,
        ):
            self._writer.committed = claims.let_go
            try:
                self._carry(worker, pool, self._loads(files, claims, stop, max(LOAD_FILES, session.batch_size)), stop)
            finally:
                pool.shutdown(cancel_futures=True)
                self._writer.finish()

    def _carry(self, worker: Worker, pool: ThreadPoolExecutor, loads: Iterator[list[ImageFile]], stop: Stop) -> None:
        waiting: deque[Future[Outcome]] = deque()
        for load in loads:
            if load:
                waiting.append(pool.submit(worker, load))
            while waiting and (not load or len(waiting) >= IN_FLIGHT * self._workers):
                self._take(waiting.popleft().result())
            if stop.is_asked:
                break
            if not load:
                self._writer.commit()  # others may be waiting as well, and for this
                time.sleep(WAIT_SECONDS)
        while waiting:
            self._take(waiting.popleft().result())

    def _take(self, outcome: Outcome) -> None:
        self._writer.take(outcome)
        for file, reason in outcome.failed:
            self._refuse_if_strict(file, reason)
        self._tell(len(outcome.extracted) + len(outcome.present) + len(outcome.failed))

    def _is_present(self, keys: Sequence[bytes]) -> list[bool]:
        # The open shard is asked first: a key that leaves it between the two questions is in the spaces by then.
        is_open = [key in self._writer.open_keys for key in keys]
        lacking = missing_somewhere(list(self._spaces.values()), keys)
        return [here or not lacks for here, lacks in zip(is_open, lacking, strict=True)]

    def _refuse_if_strict(self, file: ImageFile, reason: str) -> None:
        if self._options.strict:
            raise ImageError(f"{file.path}: {reason}", remedy="mend or remove it, or leave --strict out")

    def _tell(self, count: int) -> None:
        receipt = self._receipt
        note = f"{receipt.new:,} new, {receipt.reused:,} reused, {receipt.failed:,} failed"
        shares = receipt.spell_shares()
        self._task.advance(count, note=f"{note}; {shares}" if shares else note)
        self._metrics.tell(receipt.now())


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
