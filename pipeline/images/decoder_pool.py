"""DecoderPool: processes that decode images, so that one which crashes or hangs costs that image and not the job.

Every image goes this way, whatever it claims to be: what makes a decoder crash cannot be told beforehand. A worker
waits for its decoder, so both together keep one core busy. An image on its way costs two copies through a pipe.
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
from penult.pipeline.images.decoder_process import GO, IMAGE, LARGE, PIXELS, REASON, SETUP, TOO_SLOW, receive, send

PROGRAM = "from penult.pipeline.images.decoder_process import main; main()"

PIPE_BYTES = 1 << 20

ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""Or the C library would now and then set memory aside for another thread, and an image near its limit lack it."""

END_SECONDS = 2.0
"""How long a decoder may take to notice that it is not needed any more."""


class DecoderPool:
    """As many decoders as are asked at once; each is started when it is first needed, and used again."""

    def __init__(self, preprocessing: Preprocessing, limits: DecodeLimits | None = None) -> None:
        self._preprocessing, self._limits = preprocessing, limits or DecodeLimits()
        self._idle: list[_Decoder] = []
        self._busy: set[_Decoder] = set()
        self._is_stopped = False
        self._large_turn = threading.Lock()
        self._end = weakref.finalize(self, _end_all, self._idle)

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Returns the pixels (H, W, 3) of the image that ``data`` holds, or raises ImageError with the reason.

        Safe to call from several threads.

        Raises:
            DecodingCancelledError: `stop` was called meanwhile.
        """
        try:
            return self._ask(data)
        except _CrashError:
            # Once more, since a process may be killed for what another did.
            try:
                return self._ask(data)
            except _CrashError as crash:
                raise ImageError(str(crash)) from None

    def stop(self) -> None:
        """Ends the decoders at work, from any thread, and decodes nothing more."""
        self._is_stopped = True
        for decoder in self._busy.copy():
            decoder.kill()

    def close(self) -> None:
        """Ends the decoders; the next image starts new ones."""
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
            kind, answer, is_large = decoder.ask(data, self._large_turn)
        except BaseException as error:
            decoder.end()
            if self._is_stopped:
                raise DecodingCancelledError from error
            raise
        finally:
            self._busy.discard(decoder)
        if kind == REASON and not is_fresh and (is_large or answer == OUT_OF_MEMORY.encode()):
            decoder.end()  # what is left of other images in its memory must decide nothing, however that is told
            return self._ask(data, is_fresh=True)
        self._idle.append(decoder)
        if kind != PIXELS:
            raise ImageError(answer.decode())
        return np.frombuffer(answer, np.uint8).reshape(*self._preprocessing.crop, 3)


class DecodingCancelledError(Exception):
    """An image was left, because the job is to end."""


class _CrashError(Exception):
    """A decoder came to an end of its own."""


class _Decoder:
    """One process, asked by one thread at a time."""

    def __init__(self, preprocessing: Preprocessing, limits: DecodeLimits) -> None:
        self._limits = limits
        paths = f"import sys; sys.path[:] = {[path or os.getcwd() for path in sys.path]!r}; "  # noqa: PTH109 - as the import system does
        own_group = {} if os.name == "nt" else {"process_group": 0}  # Ctrl-C is for the job alone, which ends its own
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
        with suppress(BrokenPipeError):  # why it is gone is told when it is asked
            send(self._input, SETUP, json.dumps(setup).encode())

    def ask(self, data: bytes, large_turn: threading.Lock) -> tuple[int, bytes, bool]:
        """Returns the answer, and whether the image was a large one."""
        try:
            send(self._input, IMAGE, data)
            kind, answer = receive(self._output)
            if kind != LARGE:
                return kind, answer, False
            with large_turn:
                send(self._input, GO)
                return *receive(self._output), True
        except (EOFError, BrokenPipeError):
            status = self._process.wait()
            if status == TOO_SLOW:
                raise ImageError(
                    f"the image was not decoded within {self._limits.seconds:g} seconds",
                    remedy="where that is no fault of the image, try it again with --retry-failed",
                ) from None
            raise _CrashError(f"the decoder crashed on it ({_spell(status)})") from None

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
    """Makes room in a pipe for a whole image, so that it need not be handed over piece by piece."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _spell(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _end_all(decoders: "list[_Decoder]") -> None:
    while decoders:
        decoders.pop().end()
