"""Reads, decodes and runs one batch of files.

One worker does all three steps for its batch, with as many workers in parallel as there are cores. So decoding and
inference share the cores as needed, without a queue between them and without tuning.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from penult.errors import ImageError
from penult.exporters.card import Preprocessing
from penult.pipeline.images.decode import DecodeLimits
from penult.pipeline.images.decoder_pool import DecoderPool, DecodingCancelledError
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.reading import read_file
from penult.pipeline.images.views import IDENTITY, row_name, view_of
from penult.pipeline.runtime.session import GraphRunner
from penult.store.keys import key_of

# Bytes of files that a worker has in memory at a time; a larger file is read alone.
PORTION_BYTES = 1 << 25

_large_turn = threading.Lock()

# Returns for each key whether its rows are in the store or about to be committed.
Presence = Callable[[Sequence[bytes]], Sequence[bool]]

# Returns whether to start no further work.
Stopped = Callable[[], bool]

# A file, its key, and its bytes.
ReadFile = tuple[ImageFile, bytes, bytes]

# A file, its key, and its pixels (H, W, 3).
DecodedFile = tuple[ImageFile, bytes, NDArray[np.uint8]]

Keyed = TypeVar("Keyed", ReadFile, DecodedFile)


def never() -> bool:
    """Returns False: do not stop."""
    return False


@dataclass
class Outcome:
    """The result of one batch: unless it was stopped, each file is in exactly one of the three lists.

    ``unsettled`` contains the failed files that may succeed later without a change, because not their content failed.
    """

    extracted: list[tuple[ImageFile, bytes]] = field(default_factory=list)
    present: list[tuple[ImageFile, bytes]] = field(default_factory=list)
    failed: list[tuple[ImageFile, str]] = field(default_factory=list)
    unsettled: set[ImageFile] = field(default_factory=set)
    rows: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)  # row i belongs to extracted[i]
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "decode", "session"), 0.0))


class BatchReader:
    """Reads and decodes batches of files; thread-safe."""

    def __init__(self, preprocessing: Preprocessing, limits: DecodeLimits | None = None) -> None:
        self._decoders = DecoderPool(preprocessing, limits)

    def close(self) -> None:
        """Ends the decoder processes."""
        self._decoders.close()

    def stop(self) -> None:
        """Kills the busy decoders and abandons their images; call it after ``is_stopped`` returns True."""
        self._decoders.stop()

    def read_and_decode(
        self, files: Sequence[ImageFile], is_present: Presence, is_stopped: Stopped = never
    ) -> tuple[Outcome, list[DecodedFile]]:
        """Returns the files that already have a result, and the pixels of all others.

        A bad image never raises an error: it is in ``failed`` with its reason.
        """
        outcome = Outcome()
        clock = _Clock(outcome.stage_seconds)
        decoded = []
        for portion in _portions(files):
            if is_stopped():
                break
            with _turn_of(portion):
                fresh = drop_present(self._read(portion, outcome), is_present, outcome)
                clock.stage("read")
                decoded += self._decode(fresh, outcome, is_stopped)
                del fresh  # frees its bytes before the next portion is read
            clock.stage("decode")
        return outcome, decoded

    def _read(self, files: Sequence[ImageFile], outcome: Outcome) -> list[ReadFile]:
        read = []
        for file in files:
            try:
                data = read_file(file)
            except ImageError as error:
                outcome.failed.append((file, str(error)))
            except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
                reason = getattr(error, "strerror", None) or error
                outcome.failed.append((file, f"the file cannot be read: {reason}"))
                outcome.unsettled.add(file)
            else:
                read.append((file, key_of(data), data))
        return read

    def _decode(self, fresh: Sequence[ReadFile], outcome: Outcome, is_stopped: Stopped) -> list[DecodedFile]:
        decoded = []
        for file, key, data in fresh:
            if is_stopped():
                break
            try:
                decoded.append((file, key, self._decoders.decode(data)))
            except ImageError as error:
                outcome.failed.append((file, str(error)))
            except DecodingCancelledError:
                break
        return decoded


class Worker(BatchReader):
    """Turns a batch of files into an `Outcome`; thread-safe."""

    def __init__(
        self,
        session: GraphRunner,
        preprocessing: Preprocessing,
        dtype: str,
        limits: DecodeLimits | None = None,
        views: Sequence[str] = (IDENTITY,),
    ) -> None:
        super().__init__(preprocessing, limits)
        self._session, self._dtype = session, np.dtype(dtype)
        self._views = {view: view_of(view) for view in views}

    def __call__(self, files: Sequence[ImageFile], is_present: Presence, is_stopped: Stopped = never) -> Outcome:
        """Returns the result of a batch; a bad image is in ``failed`` with its reason."""
        outcome, decoded = self.read_and_decode(files, is_present, is_stopped)
        clock = _Clock(outcome.stage_seconds)
        size = self._session.batch_size
        batches = (decoded[start : start + size] for start in range(0, len(decoded), size))
        parts = [self._run(batch) for batch in batches if not is_stopped()]
        if parts:
            rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            self._sort_out(decoded[: size * len(parts)], rows, outcome)
        clock.stage("session")
        return outcome

    def _run(self, batch: Sequence[DecodedFile]) -> dict[str, NDArray[np.floating]]:
        """Returns the rows of all taps and views."""
        rows: dict[str, NDArray[np.floating]] = {}
        for view, seen in self._views.items():
            features = self._session.run(np.stack([seen(pixels, key) for _, key, pixels in batch]))
            with np.errstate(over="ignore"):  # overflow is detected and reported below
                rows |= {row_name(tap, view): matrix.astype(self._dtype) for tap, matrix in features.items()}
        return rows

    def _sort_out(self, run: Sequence[DecodedFile], rows: Mapping[str, NDArray[np.floating]], outcome: Outcome) -> None:
        sound = np.logical_and.reduce([np.isfinite(matrix).all(axis=1) for matrix in rows.values()])
        for (file, key, _), is_sound in zip(run, sound, strict=True):
            if is_sound:
                outcome.extracted.append((file, key))
            else:
                outcome.failed.append((file, f"its features are not finite in {self._dtype.name}"))
                outcome.unsettled.add(file)
        outcome.rows = {tap: matrix[sound] for tap, matrix in rows.items()}


def drop_present(read: Sequence[Keyed], is_present: Presence, outcome: Outcome) -> list[Keyed]:
    """Returns the files whose rows are missing in the store, and adds the others to ``outcome.present``."""
    present = is_present([item[1] for item in read]) if read else []
    outcome.present.extend(item[:2] for item, here in zip(read, present, strict=True) if here)
    return [item for item, here in zip(read, present, strict=True) if not here]


def _portions(files: Sequence[ImageFile]) -> Iterator[list[ImageFile]]:
    """Yields the files in order, in portions that fit the memory limit."""
    portion: list[ImageFile] = []
    size = 0
    for file in files:
        if portion and size + file.size > PORTION_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(file)
        size += max(file.size, 0)
    if portion:
        yield portion


def _turn_of(portion: Sequence[ImageFile]) -> AbstractContextManager[object]:
    """Returns a lock for a portion with a large file, so that only one is in memory, and else nothing."""
    return _large_turn if sum(file.size for file in portion) > PORTION_BYTES else nullcontext()


class _Clock:
    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, time.perf_counter()

    def stage(self, name: str) -> None:
        now = time.perf_counter()
        self._seconds[name] += now - self._last
        self._last = now
