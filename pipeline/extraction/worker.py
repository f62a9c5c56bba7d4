"""Carries one load of files the whole way: read, decode, run.

One worker does all three for its load, and as many workers as cores do so side by side. So decoding and inference
share the cores in whatever proportion they need, nothing waits in a queue between them, and nothing is tuned.
"""

import os
import stat
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
from penult.pipeline.extraction.decode import MAX_BYTES
from penult.pipeline.extraction.decode_limits import DecodeLimits
from penult.pipeline.extraction.decoders import Decoders
from penult.pipeline.extraction.images import ImageFile
from penult.pipeline.extraction.session import Runner
from penult.pipeline.extraction.views import IDENTITY, row_name, view_of
from penult.store.keys import key_of

# How many bytes of files a worker holds at once, or one file where it is larger.
PORTION_BYTES = 1 << 25

_large_turn = threading.Lock()

_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

# Tells for each of the keys whether its rows are in the store, or on their way into it.
Presence = Callable[[Sequence[bytes]], Sequence[bool]]

# A file, its key, and what it holds.
ReadFile = tuple[ImageFile, bytes, bytes]

# A file, its key, and its pixels (H, W, 3).
DecodedFile = tuple[ImageFile, bytes, NDArray[np.uint8]]

Keyed = TypeVar("Keyed", ReadFile, DecodedFile)


@dataclass
class Outcome:
    """What became of one load: each of its files stands in exactly one of the three lists.

    ``unsettled`` are those of the failed files that may do another time though they do not change: it was not their
    content that failed.
    """

    extracted: list[tuple[ImageFile, bytes]] = field(default_factory=list)
    present: list[tuple[ImageFile, bytes]] = field(default_factory=list)
    failed: list[tuple[ImageFile, str]] = field(default_factory=list)
    unsettled: set[ImageFile] = field(default_factory=set)
    rows: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)  # row i belongs to extracted[i]
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "decode", "session"), 0.0))


class Eyes:
    """Reads and decodes the files of a load; safe to call from several threads."""

    def __init__(self, preprocessing: Preprocessing, limits: DecodeLimits | None = None) -> None:
        self._decoders = Decoders(preprocessing, limits)

    def close(self) -> None:
        """Ends the processes that decode."""
        self._decoders.close()

    def look(self, files: Sequence[ImageFile], is_present: Presence) -> tuple[Outcome, list[DecodedFile]]:
        """Returns what came to its end by that, and the pixels of all others.

        Never raises for what is wrong with an image; that stands in ``failed`` with its reason.
        """
        outcome = Outcome()
        clock = _Clock(outcome.stage_seconds)
        decoded = []
        for portion in _portions(files):
            with _turn_of(portion):
                fresh = absent(self._read(portion, outcome), is_present, outcome)
                clock.stage("read")
                decoded += self._decode(fresh, outcome)
                del fresh  # or its bytes would stay while the next portion is read
            clock.stage("decode")
        return outcome, decoded

    def _read(self, files: Sequence[ImageFile], outcome: Outcome) -> list[ReadFile]:
        read = []
        for file in files:
            try:
                data = _read_file(file)
            except ImageError as error:
                outcome.failed.append((file, str(error)))
            except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
                reason = getattr(error, "strerror", None) or error
                outcome.failed.append((file, f"the file cannot be read: {reason}"))
                outcome.unsettled.add(file)
            else:
                read.append((file, key_of(data), data))
        return read

    def _decode(self, fresh: Sequence[ReadFile], outcome: Outcome) -> list[DecodedFile]:
        decoded = []
        for file, key, data in fresh:
            try:
                decoded.append((file, key, self._decoders.decode(data)))
            except ImageError as error:
                outcome.failed.append((file, str(error)))
        return decoded


class Worker(Eyes):
    """Turns a load of files into an `Outcome`; safe to call from several threads."""

    def __init__(
        self,
        session: Runner,
        preprocessing: Preprocessing,
        dtype: str,
        limits: DecodeLimits | None = None,
        views: Sequence[str] = (IDENTITY,),
    ) -> None:
        super().__init__(preprocessing, limits)
        self._session, self._dtype = session, np.dtype(dtype)
        self._views = {view: view_of(view) for view in views}

    def __call__(self, files: Sequence[ImageFile], is_present: Presence) -> Outcome:
        """Never raises for what is wrong with an image; that stands in ``failed`` with its reason."""
        outcome, decoded = self.look(files, is_present)
        clock = _Clock(outcome.stage_seconds)
        if decoded:
            self._run(decoded, outcome)
        clock.stage("session")
        return outcome

    def _run(self, decoded: Sequence[DecodedFile], outcome: Outcome) -> None:
        rows: dict[str, NDArray[np.floating]] = {}
        for view, seen in self._views.items():
            features = self._session.run(np.stack([seen(pixels, key) for _, key, pixels in decoded]))
            with np.errstate(over="ignore"):  # what overflows is found and named below
                rows |= {row_name(tap, view): matrix.astype(self._dtype) for tap, matrix in features.items()}
        sound = np.logical_and.reduce([np.isfinite(matrix).all(axis=1) for matrix in rows.values()])
        for (file, key, _), is_sound in zip(decoded, sound, strict=True):
            if is_sound:
                outcome.extracted.append((file, key))
            else:
                outcome.failed.append((file, f"its features are not finite in {self._dtype.name}"))
                outcome.unsettled.add(file)
        outcome.rows = {tap: matrix[sound] for tap, matrix in rows.items()}


def absent(read: Sequence[Keyed], is_present: Presence, outcome: Outcome) -> list[Keyed]:
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


def _read_file(file: ImageFile) -> bytes:
    if file.place is not None:
        return file.place.read(file, MAX_BYTES)
    descriptor = os.open(file.path, _READING)  # which waits for nobody where a pipe stands
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageError("it is no regular file")
    with os.fdopen(descriptor, "rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ImageError(f"the file is too large: more than {MAX_BYTES:,} bytes")
    return data


class _Clock:
    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, time.perf_counter()

    def stage(self, name: str) -> None:
        now = time.perf_counter()
        self._seconds[name] += now - self._last
        self._last = now
