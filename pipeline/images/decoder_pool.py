"""A pool of processes that decode images, so that an image that crashes or hangs its decoder fails alone.

Every image is decoded this way, because nothing predicts which image crashes a decoder. A worker waits for its decoder,
so together they keep one core busy. Each image costs two copies through a pipe.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from dataclasses import asdict
from typing import IO

import numpy as np
from numpy.typing import NDArray

from penult.errors import ImageError
from penult.exporters.card import Preprocessing
from penult.pipeline.images.decode import OUT_OF_MEMORY, DecodeLimits
from penult.pipeline.images.decoder_process import GO, IMAGE, LARGE, PIXELS, REASON, SETUP, TIMED_OUT, receive, send

__all__ = ["DecoderPool", "DecodingCancelledError"]

PROGRAM = "from penult.pipeline.images.decoder_process import main; main()"

PIPE_BYTES = 1 << 20

ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""With more arenas, the C library reserves memory for other threads, and an image near its limit would fail."""

END_SECONDS = 2.0
"""How long a decoder may take to exit after its pipe is closed."""


class DecodingCancelledError(Exception):
    """An image was skipped, because the job is stopping."""


class DecoderPool:
    """Decoder processes, one for each thread that decodes at the same time; they are started on demand and reused."""

    def __init__(self, preprocessing: Preprocessing, limits: DecodeLimits | None = None) -> None:
        self._preprocessing, self._limits = preprocessing, limits or DecodeLimits()
        self._idle: list[_Decoder] = []
        self._busy: set[_Decoder] = set()
        self._is_stopped = False
        self._large_lock = threading.Lock()
        self._end = weakref.finalize(self, _end_all, self._idle)

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Returns the pixels (H, W, 3) of the image file ``data``. Several threads may call this at once.

        Raises:
            ImageError: the image cannot be decoded, for the reason in the message.
            DecodingCancelledError: another thread called `stop`.
        """
        try:
            return self._ask(data)
        except _CrashError:
            # A second attempt, because the system may have killed the process for another one's memory.
            try:
                return self._ask(data)
            except _CrashError as crash:
                raise ImageError(str(crash)) from None

    def stop(self) -> None:
        """Kills the busy decoders, from any thread; nothing is decoded afterwards."""
        self._is_stopped = True
        for decoder in self._busy.copy():
            decoder.kill()

    def close(self) -> None:
        """Ends the idle decoders; the next image starts a new one."""
        _end_all(self._idle)

    def _ask(self, data: bytes, *, is_fresh: bool = False) -> NDArray[np.uint8]:
        try:
            decoder = _Decoder(self._preprocessing, self._limits) if is_fresh else self._idle.pop()
        except IndexError:
            return self._ask(data, is_fresh=True)
        self._busy.add(decoder)
        try:
            if self._is_stopped:
                raise DecodingCancelledError
            kind, answer, is_large = decoder.ask(data, self._large_lock)
        except BaseException as error:
            decoder.end()
            if self._is_stopped:
                raise DecodingCancelledError from error
            raise
        finally:
            self._busy.discard(decoder)
        if kind == REASON and not is_fresh and (is_large or answer == OUT_OF_MEMORY.encode()):
            decoder.end()  # a new process decides, so that memory left from other images has no influence
            return self._ask(data, is_fresh=True)
        self._idle.append(decoder)
        if kind != PIXELS:
            raise ImageError(answer.decode())
        return np.frombuffer(answer, np.uint8).reshape(*self._preprocessing.crop, 3)


class _CrashError(Exception):
    """A decoder process ended by itself."""


class _Decoder:
    """One decoder process, used by one thread at a time."""

    def __init__(self, preprocessing: Preprocessing, limits: DecodeLimits) -> None:
        self._limits = limits
        paths = f"import sys; sys.path[:] = {[path or os.getcwd() for path in sys.path]!r}; "  # noqa: PTH109 - like the import system
        own_group = {} if os.name == "nt" else {"process_group": 0}  # Ctrl-C reaches only the job, which ends decoders
        self._process = subprocess.Popen(  # type: ignore[call-overload]  # noqa: S603 - our own program; keywords by system
            [sys.executable, "-I", "-c", paths + PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | ONE_ARENA,
            bufsize=0,
            **own_group,
        )
        self._input: IO[bytes] = self._process.stdin
        self._output: IO[bytes] = self._process.stdout
        for stream in (self._input, self._output):
            _widen(stream)
        setup = {"preprocessing": asdict(preprocessing), **asdict(limits)}
        with suppress(BrokenPipeError):  # `ask` reports why the process ended
            send(self._input, SETUP, json.dumps(setup).encode())

    def ask(self, data: bytes, large_lock: threading.Lock) -> tuple[int, bytes, bool]:
        """Returns the answer's kind and content, and whether the image is large."""
        try:
            send(self._input, IMAGE, data)
            kind, answer = receive(self._output)
            if kind != LARGE:
                return kind, answer, False
            with large_lock:
                send(self._input, GO)
                return *receive(self._output), True
        except (EOFError, BrokenPipeError):
            status = self._process.wait()
            if status == TIMED_OUT:
                raise ImageError(
                    f"the image was not decoded within {self._limits.seconds:g} seconds",
                    remedy="if the image is fine, try it again with --retry-failed",
                ) from None
            raise _CrashError(f"the decoder crashed on it ({_status_name(status)})") from None

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        for stream in (self._input, self._output):
            with suppress(OSError):
                stream.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _widen(stream: IO[bytes]) -> None:
    """Enlarges a pipe's buffer to a whole image, which is then passed on in one piece."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _status_name(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _end_all(decoders: "list[_Decoder]") -> None:
    while decoders:
        decoders.pop().end()
