"""Gathers rows and commits them: first to the spaces, then to the catalog, so that a crash between the two is harmless.

A row without its file in the catalog costs one hash at the next run; a file without its row cannot come to be.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from penult.pipeline.extraction.images import ImageFile
from penult.pipeline.extraction.receipt import Receipt
from penult.pipeline.extraction.worker import Outcome
from penult.store import Space
from penult.store.catalog import Catalog
from penult.store.catalog.files import SeenFile
from penult.store.catalog.ledger import Failure
from penult.store.keys import key_array

SHARD_ROWS = 16_384
SHARD_BYTES = 128 << 20

# The first commit comes soon, so that a short job that is killed loses little; the later ones come ever more rarely, so
# that a long job leaves few shards.
FIRST_COMMIT_SECONDS = 2.0
LAST_COMMIT_SECONDS = 60.0

# Where other jobs wait for what this one has claimed, it keeps nothing back for long.
SHARED_COMMIT_SECONDS = 5.0


class Writer:
    """Takes outcomes one after the other, from one thread, and keeps the receipt's counts.

    ``in_flight`` is how many batches are under way at once: so many outcomes back, two workers may have met the same
    bytes without knowing of each other. ``committed`` is called with the paths of files that have come to their end.
    """

    def __init__(self, spaces: dict[str, Space], catalog: Catalog, receipt: Receipt, *, in_flight: int) -> None:
        self._spaces, self._catalog, self._receipt = spaces, catalog, receipt
        self.committed: Callable[[Sequence[str]], object] = lambda paths: None
        self._recent: deque[set[bytes]] = deque(maxlen=in_flight + 1)
        self._interval_seconds = FIRST_COMMIT_SECONDS
        self._reset()

    def _reset(self) -> None:
        self.open_keys: set[bytes] = set()
        self._rows: dict[str, list[np.ndarray]] = {tap: [] for tap in self._spaces}
        self._keys: list[bytes] = []
        self._bytes = 0
        self._files: list[SeenFile] = []
        self._failures: list[Failure] = []
        self._due = time.monotonic() + self._interval_seconds

    def take(self, outcome: Outcome) -> None:
        """Adds one outcome to the open shard and commits it when it is full or old enough."""
        self._take_rows(outcome)
        self._files.extend(_seen(file, key) for file, key in (*outcome.extracted, *outcome.present))
        self._failures.extend(_failure(file, reason, outcome) for file, reason in outcome.failed)
        self._receipt.reused += len(outcome.present)
        self._receipt.failed += len(outcome.failed)
        for stage, seconds in outcome.stage_seconds.items():
            self._receipt.stage_seconds[stage] = self._receipt.stage_seconds.get(stage, 0.0) + seconds
        if len(self._keys) >= SHARD_ROWS or self._bytes >= SHARD_BYTES or time.monotonic() >= self._due:
            self.commit()

    def finish(self) -> None:
        """Commits the rest, and writes down what the spaces hold, so that a shard lost from then on is noticed."""
        self.commit()
        if self._receipt.rows:
            for space in self._spaces.values():
                space.checkpoint()

    def hasten(self) -> None:
        """Sees to it that others do not wait long for what is taken and not committed yet."""
        self._interval_seconds = min(self._interval_seconds, SHARED_COMMIT_SECONDS / 2)
        self._due = min(self._due, time.monotonic() + SHARED_COMMIT_SECONDS)

    def _take_rows(self, outcome: Outcome) -> None:
        fresh = []
        self._recent.append(set())
        for position, (_, key) in enumerate(outcome.extracted):
            if not any(key in keys for keys in self._recent):
                self._recent[-1].add(key)
                self._keys.append(key)
                fresh.append(position)
        self.open_keys.update(self._recent[-1])
        self._receipt.new += len(fresh)
        self._receipt.reused += len(outcome.extracted) - len(fresh)
        for tap, matrix in outcome.rows.items():
            self._rows[tap].append(matrix[fresh])
            self._bytes += matrix[fresh].nbytes

    def commit(self) -> None:
        """Makes everything taken so far durable."""
        began = time.perf_counter()
        if self._keys:
            keys = key_array(self._keys)
            for tap, space in self._spaces.items():
                space.add(keys, np.concatenate(self._rows[tap]))
                self._receipt.rows += len(keys)
        seen, failed = [file.path for file in self._files], [failure.path for failure in self._failures]
        if seen:
            self._catalog.files.record(self._files)
            self._catalog.ledger.forget(seen)
        if failed:
            # What was known of a failed file is not true any more, even if its size and time are what they were.
            self._catalog.files.forget(failed)
            self._receipt.newly_failed += self._catalog.ledger.record(self._failures)
        self.committed([*seen, *failed])
        self._receipt.stage_seconds["store"] = (
            self._receipt.stage_seconds.get("store", 0.0) + time.perf_counter() - began
        )
        self._interval_seconds = min(2 * self._interval_seconds, LAST_COMMIT_SECONDS)
        self._reset()


def _seen(file: ImageFile, key: bytes) -> SeenFile:
    return SeenFile(file.path, file.size, file.mtime_ns, key)


def _failure(file: ImageFile, reason: str, outcome: Outcome) -> Failure:
    """Makes the ledger's row; an unsettled file gets a size that it cannot have, and so is tried at every run."""
    return Failure(file.path, -1 if file in outcome.unsettled else file.size, file.mtime_ns, reason)


def missing_somewhere(spaces: Sequence[Space], keys: Sequence[bytes]) -> list[bool]:
    """Tells for each key whether at least one of the spaces lacks its row."""
    missing: set[bytes] = set()
    if keys:
        asked = key_array(keys)
        for space in spaces:
            missing.update(key.tobytes() for key in space.missing(asked))
    return [key in missing for key in keys]
