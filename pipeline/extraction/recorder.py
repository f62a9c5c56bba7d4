"""Records the results of a job in the catalog, the ledger, the manifests and the receipt, from one process."""

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

# Commits between two checkpoints of the spaces.
CHECKPOINT_COMMITS = 64


class Recorder:
    """Records counts and commits from one thread, and shows the progress.

    ``settled`` is called with the paths of files that have a durable result. ``failed`` contains the paths of this job
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
        """Counts images with a result and shows the progress; a strict job raises ImageError for a failed one."""
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
        """Records the files of durable rows and the failures, and reports all of them as settled."""
        began = time.perf_counter()
        catalog = self._store.catalog
        self.receipt.rows += commit.rows
        seen, failed = [file.path for file in commit.seen], [failure.path for failure in commit.failures]
        if seen:
            catalog.files.record(commit.seen)
            catalog.ledger.forget(seen)
        if failed:
            # The catalog entry of a failed file is outdated, even if size and time are unchanged.
            catalog.files.forget(failed)
            self.receipt.newly_failed += catalog.ledger.record(commit.failures)
        self.settled([*seen, *failed])
        self._commits += 1
        if commit.rows and self._commits % CHECKPOINT_COMMITS == 0:
            self._checkpoint()
        self._busy("store", commit.seconds + time.perf_counter() - began)

    def finish(self) -> None:
        """Writes a checkpoint of the spaces, so that a later loss of a shard is detected."""
        if self.receipt.rows:
            self._checkpoint()

    def _checkpoint(self) -> None:
        for space in self._spaces.values():
            space.checkpoint()

    def _busy(self, stage: str, seconds: float) -> None:
        self.receipt.stage_seconds[stage] = self.receipt.stage_seconds.get(stage, 0.0) + seconds

    def refuse_if_strict(self, path: str, reason: str) -> None:
        """Raises ImageError for a failed image if the job is strict."""
        if self._options.strict:
            raise ImageError(f"{path}: {reason}", remedy="repair or remove it, or run without --strict")

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
    """Removes ledger entries of deleted files below ``folder``; returns their number.

    If a disk is only not mounted, nothing is lost: its files are tried again when they are back.
    """
    root = os.path.join(os.path.abspath(folder), "")  # noqa: PTH100, PTH118 - as the listing does it, which follows no link
    with suppress(StoreDamagedError):  # `penult store verify` reports it; the job itself is done
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
