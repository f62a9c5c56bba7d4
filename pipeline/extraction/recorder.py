"""Keeps a job's records: the catalog, the ledger, the manifests and the receipt. Only one process of a job does so."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from penult.errors import ImageError, StoreDamagedError
from penult.pipeline.extraction.options import ExtractOptions
from penult.pipeline.extraction.receipt import MetricsFile, Receipt
from penult.pipeline.extraction.writer import Commit, Tally
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.progress import Task
from penult.store import Space, Store
from penult.store.catalog import Catalog

# How many commits pass until what the spaces hold is written down.
CHECKPOINT_COMMITS = 64


class Recorder:
    """Takes what was counted and what was committed, from one thread; shows both as the job goes.

    ``settled`` is called with the paths of files that have come to their end, and ``failed`` holds those of this job
    that could not be used.
    """

    def __init__(
        self, store: Store, spaces: dict[str, Space], options: ExtractOptions, receipt: Receipt, task: Task
    ) -> None:
        self._store, self._spaces, self._options = store, spaces, options
        self.receipt, self._task = receipt, task
        self.settled: Callable[[Sequence[str]], object] = lambda paths: None
        self.failed: set[str] = set()
        self._metrics = MetricsFile(options.metrics)
        self._commits = 0

    def count(self, tally: Tally) -> None:
        """Counts images that have come to their end, and shows it; refuses failed ones where the job is strict."""
        receipt = self.receipt
        receipt.new += tally.new
        receipt.reused += tally.reused
        receipt.failed += len(tally.failed)
        self.failed.update(path for path, _ in tally.failed)
        for stage, seconds in tally.stage_seconds.items():
            self._busy(stage, seconds)
        for path, reason in tally.failed:
            self.refuse_if_strict(path, reason)
        self.show(tally.images)

    def record(self, commit: Commit) -> None:
        """Enters the files of rows that are durable, and the failures, and lets go of all of them."""
        began = time.perf_counter()
        catalog = self._store.catalog
        self.receipt.rows += commit.rows
        seen, failed = [file.path for file in commit.seen], [failure.path for failure in commit.failures]
        if seen:
            catalog.files.record(commit.seen)
            catalog.ledger.forget(seen)
        if failed:
            # What was known of a failed file is not true any more, even if its size and time are what they were.
            catalog.files.forget(failed)
            self.receipt.newly_failed += catalog.ledger.record(commit.failures)
        self.settled([*seen, *failed])
        self._commits += 1
        if commit.rows and self._commits % CHECKPOINT_COMMITS == 0:
            self._checkpoint()
        self._busy("store", commit.seconds + time.perf_counter() - began)

    def finish(self) -> None:
        """Writes down what the spaces hold, so that a shard lost from then on is noticed."""
        if self.receipt.rows:
            self._checkpoint()

    def _checkpoint(self) -> None:
        for space in self._spaces.values():
            space.checkpoint()

    def _busy(self, stage: str, seconds: float) -> None:
        self.receipt.stage_seconds[stage] = self.receipt.stage_seconds.get(stage, 0.0) + seconds

    def refuse_if_strict(self, path: str, reason: str) -> None:
        """Raises ImageError for a failed image where the job is strict."""
        if self._options.strict:
            raise ImageError(f"{path}: {reason}", remedy="mend or remove it, or leave --strict out")

    def show(self, count: int, *, note: str = "") -> None:
        """Shows ``count`` more images as done, and the receipt so far, or another ``note``."""
        receipt = self.receipt
        counts = f"{receipt.new:,} new, {receipt.reused:,} reused, {receipt.failed:,} failed"
        shares = receipt.format_shares()
        self._task.advance(count, note=note or (f"{counts}; {shares}" if shares else counts))
        self._metrics.write(receipt.now())

    def close(self) -> None:
        """Writes the last metrics."""
        self._metrics.write(self.receipt.now(), is_over=True)


def forget_deleted_files(catalog: Catalog, folder: Path, files: Sequence[ImageFile]) -> int:
    """Drops the rows of files below ``folder`` that are neither there nor among ``files``; returns how many.

    Nothing is lost where a disk is only not mounted: its files are tried once more when they are back.
    """
    root = os.path.join(os.path.abspath(folder), "")  # noqa: PTH100, PTH118 - as the listing does it, which follows no link
    with suppress(StoreDamagedError):  # which `penult store verify` tells of; the job itself is done
        below = {row.path for row in catalog.ledger.failures() if row.path.startswith(root)}
        gone = [path for path in below.difference(file.path for file in files) if _is_deleted(path)]
        if gone:
            catalog.ledger.forget(gone)
        return len(gone)
    return 0


def _is_deleted(path: str) -> bool:
    with suppress(ValueError):  # a path with a zero byte
        return not os.path.lexists(path)
    return False
