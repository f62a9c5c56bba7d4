"""Carries one batch of files the whole way: read, decode, run.

One worker does all three for its batch, and as many workers as cores do so side by side. So decoding and inference
share the cores in whatever proportion they need, nothing waits in a queue between them, and nothing is tuned.
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

# How many bytes of files a worker holds at once, or one file where it is larger.
PORTION_BYTES = 1 << 25

_large_turn = threading.Lock()

# Tells for each of the keys whether its rows are in the store, or on their way into it.
Presence = Callable[[Sequence[bytes]], Sequence[bool]]

# Tells whether to begin nothing more.
Stopped = Callable[[], bool]

# A file, its key, and what it holds.
ReadFile = tuple[ImageFile, bytes, bytes]

# A file, its key, and its pixels (H, W, 3).
DecodedFile = tuple[ImageFile, bytes, NDArray[np.uint8]]

Keyed = TypeVar("Keyed", ReadFile, DecodedFile)


def never() -> bool:
    """Tells to go on."""
    return False


@dataclass
class Outcome:
    """What became of one batch: each of its files stands in exactly one of the three lists, if it was not stopped.

    ``unsettled`` are those of the failed files that may do another time though they do not change: it was not their
    content that failed.
    """

    extracted: list[tuple[ImageFile, bytes]] = field(default_factory=list)
    present: list[tuple[ImageFile, bytes]] = field(default_factory=list)
    failed: list[tuple[ImageFile, str]] = field(default_factory=list)
    unsettled: set[ImageFile] = field(default_factory=set)
    rows: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)  # row i belongs to extracted[i]
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "decode", "session"), 0.0))


class ImageReader:
    """Reads and decodes the files of a batch; safe to call from several threads."""

    def __init__(self, preprocessing: Preprocessing, limits: DecodeLimits | None = None) -> None:
        self._decoders = DecoderPool(preprocessing, limits)

    def close(self) -> None:
        """Ends the processes that decode."""
        self._decoders.close()

    def stop(self) -> None:
        """Ends the decoders at work, whose images are left; to be called once ``is_stopped`` tells so."""
        self._decoders.stop()

    def read_and_decode(
        self, files: Sequence[ImageFile], is_present: Presence, is_stopped: Stopped = never
    ) -> tuple[Outcome, list[DecodedFile]]:
        """Returns what came to its end by that, and the pixels of all others.

        Never raises for what is wrong with an image; that stands in ``failed`` with its reason.
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
                del fresh  # or its bytes would stay while the next portion is read
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


class Worker(ImageReader):
    """Turns a batch of files into an `Outcome`; safe to call from several threads."""

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
        """Never raises for what is wrong with an image; that stands in ``failed`` with its reason."""
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
            with np.errstate(over="ignore"):  # what overflows is found and named afterwards
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
    """Returns those whose rows are to be made, and enters the others as present."""
    present = is_present([item[1] for item in read]) if read else []
    outcome.present.extend(item[:2] for item, here in zip(read, present, strict=True) if here)
    return [item for item, here in zip(read, present, strict=True) if not here]


def _portions(files: Sequence[ImageFile]) -> Iterator[list[ImageFile]]:
    """Yields the files in their order, as many at once as may be held."""
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
    """Returns what is held while a portion is in memory: for one large file, a turn, so that no other is there too."""
    return _large_turn if sum(file.size for file in portion) > PORTION_BYTES else nullcontext()


class _Clock:
    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, time.perf_counter()

    def stage(self, name: str) -> None:
        now = time.perf_counter()
        self._seconds[name] += now - self._last
        self._last = now
