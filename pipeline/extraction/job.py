"""One run of an extraction: counts the files that are already known and passes the others to an engine."""

import gc
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice

import numpy as np

from penult.errors import StoreDamagedError, StoreWriteError
from penult.exporters import Backbone
from penult.pipeline.extraction.claims import Claims
from penult.pipeline.extraction.engines import Engine, require_engine, start_engine
from penult.pipeline.extraction.interrupts import StopSignal, stop_on_signals
from penult.pipeline.extraction.options import ExtractOptions
from penult.pipeline.extraction.receipt import Receipt
from penult.pipeline.extraction.recorder import Recorder
from penult.pipeline.extraction.writer import Tally, missing_in_any
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.progress import Task
from penult.store import Space, Store
from penult.store.keys import distinct, key_array, no_keys

# Files that are looked up at a time: few at first, so that work starts early, then more, because a large lookup reads
# each part of the index only once.
LOOK_UP_FILES, MOST_LOOK_UP_FILES = 8_192, 262_144


@contextmanager
def paused_collector() -> Iterator[None]:
    """Pauses garbage collection, which takes a third of the time while a million records are created."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# How often a job with several processes repeats work whose rows are missing at the end.
ROUNDS = 3


class ExtractionJob:
    """One run of an extraction; fills the receipt and advances the task. Use it from one thread."""

    def __init__(
        self, store: Store, spaces: dict[str, Space], options: ExtractOptions, receipt: Receipt, task: Task
    ) -> None:
        self._store, self._spaces, self._options, self._receipt = store, spaces, options, receipt
        self._recorder = Recorder(store, spaces, options, receipt, task)

    def run(self, backbone: Backbone, files: Sequence[ImageFile]) -> None:
        """Processes every file; the engine starts only if there is work for it."""
        require_engine(self._options.engine)
        self._receipt.engine = self._options.engine
        with stop_on_signals(self._options.max_seconds) as stop:
            try:
                self._recorder.show(0)
                unknown = self._unknown(files, stop)
                first = list(islice(unknown, 1))
                if first:
                    self._require_writable()
                    self._work(backbone, chain(first, unknown), stop)
                self._receipt.is_complete = not stop.is_set or self._receipt.done == len(files)
                if self._options.engine != "local" and self._receipt.is_complete:
                    self._confirm(backbone, files, stop)
            finally:
                self._recorder.close()
            if not self._receipt.is_complete:
                self._receipt.stopped = stop.reason

    def _require_writable(self) -> None:
        catalog = self._store.catalog
        if catalog.readonly:
            raise StoreWriteError(
                f"There are new images, but the store is read-only: {'; '.join(catalog.notes)}",
                expected="a writable store, or no new images",
                remedy="ask its owner for write permission, or copy the store",
            )

    def _unknown(self, files: Sequence[ImageFile], stop: StopSignal) -> Iterator[ImageFile]:
        """Yields the files to process, and counts those with a known result."""
        for block in _blocks(files):
            for file in self._look_up(block):
                if stop.is_set:
                    return
                yield file

    @paused_collector()
    def _look_up(self, files: Sequence[ImageFile]) -> list[ImageFile]:
        """Returns the files without a known result, and counts the others."""
        catalog, spaces = self._store.catalog, list(self._spaces.values())
        keys = [None] * len(files) if self._options.rehash else catalog.files.known(files)
        missing = iter(missing_in_any(spaces, [key for key in keys if key is not None]))
        retry = self._options.retry_failed or self._options.rehash
        reasons = [None] * len(files) if retry else catalog.ledger.known(files)
        unknown = []
        for file, key, reason in zip(files, keys, reasons, strict=True):
            if key is not None and not next(missing):
                self._receipt.reused += 1
            elif reason is not None:
                self._recorder.refuse_if_strict(file.path, reason)
                self._receipt.failed += 1
            else:
                unknown.append(file)
        self._recorder.show(len(files) - len(unknown))
        return unknown

    def _work(self, backbone: Backbone, files: Iterator[ImageFile], stop: StopSignal) -> None:
        scope = ",".join(sorted(space.spec.id for space in self._spaces.values()))
        with Claims(self._store.path, scope) as claims:
            self._recorder.settled = claims.release
            with start_engine(backbone, self._store, self._spaces, self._options, self._recorder) as engine:
                engine.process(self._batches(files, claims, stop, engine), stop)
        self._receipt.note = claims.note

    def _batches(
        self, files: Iterator[ImageFile], claims: Claims, stop: StopSignal, engine: Engine
    ) -> Generator[list[ImageFile]]:
        """Yields batches of files that this job has claimed; an empty batch means to wait for other jobs."""
        held: list[ImageFile] = []
        while chunk := list(islice(files, engine.claim_files)):
            mine, theirs = self._claim(chunk, claims, engine)
            yield from engine.into_batches(mine)
            held += theirs
        while held and not stop.is_set:
            still: list[ImageFile] = []
            for block in _blocks(held):
                mine, theirs = self._claim(self._look_up(block), claims, engine)
                yield from engine.into_batches(mine)
                still += theirs
            held = still
            if held:
                yield []

    def _claim(
        self, files: Sequence[ImageFile], claims: Claims, engine: Engine
    ) -> tuple[list[ImageFile], list[ImageFile]]:
        """Returns the files that this job processes now, and those that another job has claimed."""
        granted = claims.take([file.path for file in files])
        mine = [file for file, is_mine in zip(files, granted, strict=True) if is_mine]
        if claims.has_company:
            engine.commit_soon()
        # Another job may have committed and released some of them since the lookup.
        unknown = self._look_up(mine)
        claims.release({file.path for file in mine}.difference(file.path for file in unknown))
        return unknown, [file for file, is_mine in zip(files, granted, strict=True) if not is_mine]

    def _confirm(self, backbone: Backbone, files: Sequence[ImageFile], stop: StopSignal) -> None:
        """Checks that every image has its rows, whatever other processes reported, and repeats what is missing."""
        rounds = 0
        while lacking := self._count_keys(files):
            self._receipt.is_complete = False
            if stop.is_set:
                return
            if rounds == ROUNDS:
                raise _lost(lacking)
            rounds += 1
            back = min(self._receipt.new, len(lacking))
            self._recorder.count(Tally(new=-back, reused=back - len(lacking)))
            self._work(backbone, iter(lacking), stop)
            self._receipt.is_complete = not stop.is_set

    @paused_collector()
    def _count_keys(self, files: Sequence[ImageFile]) -> list[ImageFile]:
        """Counts the distinct keys for the receipt; returns the files without rows and without a ledger entry."""
        catalog, spaces = self._store.catalog, list(self._spaces.values())
        blocks, lacking = [no_keys()], []
        for block in _blocks(files):
            keys, reasons = catalog.files.known(block), catalog.ledger.known(block)
            known = [key for key in keys if key is not None]
            missing = iter(missing_in_any(spaces, known))
            blocks.append(key_array(known))
            for file, key, reason in zip(block, keys, reasons, strict=True):
                is_failed = reason is not None or file.path in self._recorder.failed
                if next(missing) if key is not None else not is_failed:
                    lacking.append(file)
        self._receipt.distinct_keys = len(distinct(np.concatenate(blocks)))
        return lacking


def _blocks(files: Sequence[ImageFile]) -> Iterator[Sequence[ImageFile]]:
    start, size = 0, LOOK_UP_FILES
    while start < len(files):
        yield files[start : start + size]
        start, size = start + size, min(2 * size, MOST_LOOK_UP_FILES)


def _lost(files: Sequence[ImageFile]) -> StoreDamagedError:
    return StoreDamagedError(
        f"{len(files)} images have no rows although these were committed, for example {files[0].path}",
        expected="one store that is the same for all processes",
        remedy="check that all nodes mount the same file system at this path, and run the job again",
    )
