"""Collects rows and commits them to the spaces.

Rows are committed before their files are recorded (see `recorder`), so a crash between the two is harmless. A row
without its file in the catalog costs one hash at the next run; a recorded file without its row cannot occur.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from penult.pipeline.extraction.worker import Outcome
from penult.pipeline.images.image_file import ImageFile
from penult.store import Space
from penult.store.catalog.files import SeenFile
from penult.store.catalog.ledger import Failure
from penult.store.keys import key_array

SHARD_ROWS = 16_384
SHARD_BYTES = 128 << 20

# The first commit comes early, so that a short job that is killed loses little. Later ones come less and less often, so
# that a long job leaves few shards.
FIRST_COMMIT_SECONDS = 2.0
LAST_COMMIT_SECONDS = 60.0

# The longest time between commits while other jobs wait for images that this one has claimed.
SHARED_COMMIT_SECONDS = 5.0

# How old what is known of others' rows may be, when it is asked whether an image needs work: a row that is made twice
# is one row, and a listing of thousands of shards for each load would take longer.
PRESENCE_SECONDS = 2.0


@dataclass
class Tally:
    """The number of images per result, and the busy time of each stage."""

    new: int = 0
    reused: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)  # paths with reasons
    stage_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Number of images with a result."""
        return self.new + self.reused + len(self.failed)

    def add(self, other: "Tally") -> None:
        """Adds the counts of another tally."""
        self.new += other.new
        self.reused += other.reused
        self.failed += other.failed
        for stage, seconds in other.stage_seconds.items():
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds


@dataclass(frozen=True)
class Commit:
    """The durable rows of a commit, and the files and failures that may now be recorded."""

    seen: list[SeenFile]
    failures: list[Failure]
    keys: list[bytes]
    rows: int
    seconds: float


class RecentKeys:
    """The keys of the last batches, to detect samples that two workers processed at the same time."""

    def __init__(self, batches: int) -> None:
        self._batches: deque[list[bytes]] = deque()
        self._kept, self._keys = batches, set[bytes]()

    def fresh(self, keys: Sequence[bytes]) -> list[int]:
        """Adds a batch, and returns the positions of its keys that are new."""
        places = []
        for place, key in enumerate(keys):
            if key not in self._keys:
                self._keys.add(key)
                places.append(place)
        self._batches.append([keys[place] for place in places])
        self.keep(self._kept)
        return places

    def keep(self, batches: int) -> None:
        """Sets the number of batches to keep."""
        self._kept = batches
        while len(self._batches) > self._kept:
            self._keys.difference_update(self._batches.popleft())


class Writer:
    """Takes outcomes one after the other, from one thread, and commits their rows as one shard for each space.

    ``overlap`` is how many other outcomes may come between the beginning of a load and its own.
    """

    def __init__(self, spaces: dict[str, Space], *, overlap: int) -> None:
        self._spaces = spaces
        self._recent = RecentKeys(overlap + 1)
        self._interval_seconds = FIRST_COMMIT_SECONDS
        self._reset()

    def _reset(self) -> None:
        self._open_keys: set[bytes] = set()
        self._rows: dict[str, list[np.ndarray]] = {tap: [] for tap in self._spaces}
        self._keys: list[bytes] = []
        self._bytes = 0
        self._files: list[SeenFile] = []
        self._failures: list[Failure] = []
        self._due = time.monotonic() + self._interval_seconds

    @property
    def is_full(self) -> bool:
        """Whether the open shard has its full size."""
        return len(self._keys) >= SHARD_ROWS or self._bytes >= SHARD_BYTES

    @property
    def is_due(self) -> bool:
        """Whether the open shard is full, or old enough."""
        return self.is_full or time.monotonic() >= self._due

    def take(self, outcome: Outcome) -> Tally:
        """Adds one outcome to the open shard."""
        fresh = self._recent.fresh([key for _, key in outcome.extracted])
        keys = [outcome.extracted[place][1] for place in fresh]
        self._keys += keys
        self._open_keys.update(keys)
        for tap, matrix in outcome.rows.items():
            self._rows[tap].append(matrix[fresh])
            self._bytes += matrix[fresh].nbytes
        self._files.extend(_seen(file, key) for file, key in (*outcome.extracted, *outcome.present))
        self._failures.extend(_failure(file, reason, outcome) for file, reason in outcome.failed)
        reused = len(outcome.present) + len(outcome.extracted) - len(fresh)
        failed = [(file.path, reason) for file, reason in outcome.failed]
        return Tally(len(fresh), reused, failed, dict(outcome.stage_seconds))

    def is_present(self, keys: Sequence[bytes]) -> list[bool]:
        """Returns for each key whether its rows are in all spaces or in the open shard; thread-safe."""
        # The open shard is checked first: a key that leaves it meanwhile is in the spaces by then.
        is_open = [key in self._open_keys for key in keys]
        lacking = missing_in_any(list(self._spaces.values()), keys, patience=PRESENCE_SECONDS)
        return [here or not lacks for here, lacks in zip(is_open, lacking, strict=True)]

    def commit_soon(self) -> None:
        """Commits the open shard soon, because other jobs wait for it."""
        self._interval_seconds = min(self._interval_seconds, SHARED_COMMIT_SECONDS / 2)
        self._due = min(self._due, time.monotonic() + SHARED_COMMIT_SECONDS)

    def commit(self) -> Commit:
        """Makes all rows taken so far durable, and returns what may now be recorded."""
        began = time.perf_counter()
        if self._keys:
            keys = key_array(self._keys)
            for tap, space in self._spaces.items():
                space.add(keys, np.concatenate(self._rows[tap]), checkpoint=False)
        rows = len(self._keys) * len(self._spaces)
        done = Commit(self._files, self._failures, self._keys, rows, time.perf_counter() - began)
        self._interval_seconds = min(2 * self._interval_seconds, LAST_COMMIT_SECONDS)
        self._reset()
        return done


def _seen(file: ImageFile, key: bytes) -> SeenFile:
    return SeenFile(file.path, file.size, file.mtime_ns, key)


def _failure(file: ImageFile, reason: str, outcome: Outcome) -> Failure:
    """Returns the ledger entry; an unsettled file gets an impossible size, so that every run tries it again."""
    return Failure(file.path, -1 if file in outcome.unsettled else file.size, file.mtime_ns, reason)


def missing_in_any(spaces: Sequence[Space], keys: Sequence[bytes], *, patience: float = 0.0) -> list[bool]:
    """Returns for each key whether a space lacks its row; the answer may be ``patience`` seconds old."""
    missing: set[bytes] = set()
    if keys:
        asked = key_array(keys)
        for space in spaces:
            missing.update(key.tobytes() for key in space.missing(asked, patience=patience))
    return [key in missing for key in keys]
