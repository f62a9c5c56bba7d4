"""The batch job: images in, rows of one or more spaces out; run again, it costs only what is new."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from penult.errors import ImageError, InputError
from penult.exporters import Backbone, load_backbone
from penult.pipeline.extraction.images import ImageFile, list_images
from penult.pipeline.extraction.interrupts import Stop, stop_when_interrupted
from penult.pipeline.extraction.receipt import Receipt
from penult.pipeline.extraction.session import Session, worker_count
from penult.pipeline.extraction.worker import Outcome, Worker
from penult.pipeline.extraction.writer import Writer, missing_somewhere
from penult.pipeline.progress import Progress, Silent, Task
from penult.store import Space, SpaceSpec, Store, open_store

# How many files are looked up in the catalog at once.
LOOK_UP_FILES = 8_192

# How many files a worker takes at a time (in batches of the session), and how many such loads are under way for each
# worker: one in its hands and one waiting.
LOAD_FILES = 16
IN_FLIGHT = 2


Dtype = Literal["float16", "float32"]


@dataclass(frozen=True)
class ExtractOptions:
    """How a job runs. None of it changes a feature, save ``dtype``, which is part of the space."""

    provider: str = "auto"
    workers: int | None = None
    batch_size: int | None = None
    dtype: Dtype = "float16"
    strict: bool = False
    retry_failed: bool = False
    rehash: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "batch_size", "limit"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InputError(f"The option {name} is {number}", expected="1 or more, or None")


def extract(
    images: str | Path | Iterable[str | Path | ImageFile],
    store: str | Path | Store = "penult-store",
    *,
    backbone: str | Path | Backbone = "efficientnet-lite0",
    taps: str | Sequence[str] = ("penultimate",),
    options: ExtractOptions | None = None,
    progress: Progress | None = None,
) -> Receipt:
    """Extracts the features of all ``images`` that the store does not hold yet, and returns the receipt.

    Every image ends in rows of the store or in its ledger. What is done is committed as the job goes; a job that was
    killed, or stopped by Ctrl-C or SIGTERM (which raise KeyboardInterrupt here once all is committed), goes on where
    it was when it is run again.
    """
    options = options or ExtractOptions()
    progress = progress or Silent()
    opened = store if isinstance(store, Store) else open_store(store)
    network = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    files = find_images(images, progress)[: options.limit]
    taps = [taps] if isinstance(taps, str) else list(taps)
    spaces = open_spaces(opened, network, taps, options.dtype)
    job = opened.catalog.jobs.start("extract", {"backbone": network.name, "taps": taps, **asdict(options)})
    receipt = Receipt(found=len(files), spaces=[space.spec.id for space in spaces.values()])
    began = time.perf_counter()
    try:
        with progress.task("Extracting", total=len(files)) as task:
            _Job(opened, spaces, options, receipt).run(network, files, task)
    finally:
        receipt.seconds = time.perf_counter() - began
        opened.catalog.jobs.finish(job, receipt.to_json())
    return receipt


def find_images(images: str | Path | Iterable[str | Path | ImageFile], progress: Progress) -> list[ImageFile]:
    """Returns the list of all images, or raises InputError where a folder or table has none."""
    if not isinstance(images, str | Path):
        return [file if isinstance(file, ImageFile) else ImageFile.at(str(Path(file).absolute())) for file in images]
    with progress.task("Listing", unit="files") as task:
        files = []
        for file in list_images(images):
            files.append(file)
            task.advance()
    if not files:
        raise InputError(
            f"There is no image in {str(images)!r}",
            expected="a folder with images at any depth, or a table with a column 'path'",
            remedy="look whether this is the folder that you meant",
        )
    return files


def open_spaces(store: Store, backbone: Backbone, taps: Sequence[str], dtype: Dtype) -> dict[str, Space]:
    """Returns the space of each tap, and keeps a copy of the backbone beside them in the store."""
    if not taps:
        raise InputError("No tap was asked for", expected="at least one", remedy="ask for 'penultimate'")
    widths = {name: backbone.tap(name).width for name in taps}
    store.add_backbone(backbone.name, backbone.fingerprint, backbone.to_bytes())
    return {
        name: store.space(
            SpaceSpec(
                backbone=backbone.name,
                fingerprint=backbone.fingerprint,
                tap=name,
                width=width,
                dtype=dtype,
                card=backbone.card.to_json(),
            )
        )
        for name, width in widths.items()
    }


class _Job:
    """One run: looks up what is known, hands the rest to the workers, and the workers' outcomes to the writer."""

    def __init__(self, store: Store, spaces: dict[str, Space], options: ExtractOptions, receipt: Receipt) -> None:
        self._store, self._spaces, self._options, self._receipt = store, spaces, options, receipt
        self._workers = options.workers or worker_count()
        self._writer = Writer(spaces, store.catalog, receipt, in_flight=IN_FLIGHT * self._workers)

    def run(self, backbone: Backbone, files: Sequence[ImageFile], task: Task) -> None:
        """Brings every file to an end; the session is opened only if there is work for it."""
        with stop_when_interrupted() as stop:
            try:
                unknown = self._look_up(files, task, stop)
                first = list(islice(unknown, 1))
                if first:
                    self._work(backbone, _chain(first, unknown), task, stop)
            finally:
                self._writer.commit()
            self._receipt.is_complete = not stop.is_asked

    def _look_up(self, files: Sequence[ImageFile], task: Task, stop: Stop) -> Iterator[ImageFile]:
        """Yields the files that must be opened, and counts those whose end is known already."""
        catalog, spaces = self._store.catalog, list(self._spaces.values())
        for start in range(0, len(files), LOOK_UP_FILES):
            chunk = files[start : start + LOOK_UP_FILES]
            keys = [None] * len(chunk) if self._options.rehash else catalog.files.known(chunk)
            missing = iter(missing_somewhere(spaces, [key for key in keys if key is not None]))
            retry = self._options.retry_failed or self._options.rehash
            reasons = [None] * len(chunk) if retry else catalog.ledger.known(chunk)
            for file, key, reason in zip(chunk, keys, reasons, strict=True):
                if stop.is_asked:
                    return
                if key is not None and not next(missing):
                    self._receipt.reused += 1
                elif reason is not None:
                    self._refuse_if_strict(file, reason)
                    self._receipt.failed += 1
                else:
                    yield file
                    continue
                task.advance(note=self._note())

    def _work(self, backbone: Backbone, files: Iterator[ImageFile], task: Task, stop: Stop) -> None:
        session = Session(
            backbone, list(self._spaces), provider=self._options.provider, batch_size=self._options.batch_size
        )
        worker = Worker(session, backbone.card.preprocessing, self._options.dtype, self._is_present)
        self._receipt.provider = session.choice.provider
        self._receipt.workers = self._workers
        waiting: deque[Future[Outcome]] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="penult-worker") as pool:
            try:
                while load := list(islice(files, max(LOAD_FILES, session.batch_size))):
                    waiting.append(pool.submit(worker, load))
                    if len(waiting) >= IN_FLIGHT * self._workers:
                        self._take(waiting.popleft().result(), task)
                    if stop.is_asked:
                        break
                while waiting:
                    self._take(waiting.popleft().result(), task)
            finally:
                pool.shutdown(cancel_futures=True)

    def _take(self, outcome: Outcome, task: Task) -> None:
        self._writer.take(outcome)
        for file, reason in outcome.failed:
            self._refuse_if_strict(file, reason)
        count = len(outcome.extracted) + len(outcome.present) + len(outcome.failed)
        task.advance(count, note=self._note())

    def _is_present(self, keys: Sequence[bytes]) -> list[bool]:
        # The open shard is asked first: a key that leaves it between the two questions is in the spaces by then.
        is_open = [key in self._writer.open_keys for key in keys]
        lacking = missing_somewhere(list(self._spaces.values()), keys)
        return [here or not lacks for here, lacks in zip(is_open, lacking, strict=True)]

    def _refuse_if_strict(self, file: ImageFile, reason: str) -> None:
        if self._options.strict:
            raise ImageError(f"{file.path}: {reason}", remedy="mend or remove it, or leave --strict out")

    def _note(self) -> str:
        receipt = self._receipt
        return f"{receipt.new:,} new, {receipt.reused:,} reused, {receipt.failed:,} failed"


def _chain(first: Iterable[ImageFile], rest: Iterator[ImageFile]) -> Iterator[ImageFile]:
    yield from first
    yield from rest
