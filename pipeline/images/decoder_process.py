"""The program of a decoder process, which turns image files into pixels until its input ends.

An image that crashes Pillow, blocks it or takes all its memory ends this process and nothing else. The output and
warnings of the libraries below Pillow are discarded.

Each message starts with one byte for its kind and eight bytes for its length.
"""

import faulthandler
import io
import os
import sys
import warnings
from contextlib import suppress
from types import SimpleNamespace, TracebackType
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from penult.exporters.card import Preprocessing

SETUP, IMAGE, GO = b"SIG"
"""Messages to a decoder: the settings, an image, and the permission to decode a large image."""

PIXELS, REASON, LARGE = b"PRL"
"""Answers of a decoder: pixels, the reason for a failure, and a request to decode a large image."""

TIMED_OUT = 1
"""The exit status of a decoder that ran out of time; `faulthandler` sets it."""

INTERNAL_ERROR = 3
"""The exit status of a decoder that failed by itself."""

_HEAD_BYTES, _PART_BYTES = 9, 1 << 20

# The limit for texts and profiles in a PNG, which are ignored. It is high, and only stops decompression bombs.
_MAX_TEXT_BYTES = 1 << 24


def send(stream: IO[bytes], kind: int, content: bytes = b"") -> None:
    """Writes one message to an unbuffered stream, which may accept it in pieces.

    A small message is written at once, so that its reader wakes up once.
    """
    head = kind.to_bytes(1, "little") + len(content).to_bytes(8, "little")
    for part in (head + content,) if len(content) <= _PART_BYTES else (head, content):
        view, start = memoryview(part), 0
        while start < len(view):
            start += stream.write(view[start:])


def receive(stream: IO[bytes]) -> tuple[int, bytes]:
    """Returns the kind and content of the next message; raises EOFError if the other process has ended."""
    head = _read(stream, _HEAD_BYTES)
    return head[0], _read(stream, int.from_bytes(head[1:], "little"))


def _read(stream: IO[bytes], size: int) -> bytes:
    """Returns ``size`` bytes. They may be hundreds of megabytes, which BytesIO returns without a copy."""
    gathered = io.BytesIO()
    while (left := size - gathered.tell()) > 0:
        part = stream.read(min(left, _PART_BYTES))
        if not part:
            raise EOFError
        gathered.write(part)
    return gathered.getvalue()


class _LargeLock:
    """A lock held by the parent process: one decoder at a time may decode a large image."""

    def __init__(self, source: IO[bytes], answers: IO[bytes], seconds: float) -> None:
        self._source, self._answers, self._seconds = source, answers, seconds

    def __enter__(self) -> None:
        faulthandler.cancel_dump_traceback_later()  # waiting for other images does not count
        send(self._answers, LARGE)
        receive(self._source)
        _start_timer(self._seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def _start_timer(seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True)


def main() -> None:
    """Decodes images until the input ends."""
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):  # so that a library's output is not read as an answer
        os.dup2(nothing, descriptor)
    warnings.simplefilter("ignore")
    try:
        _serve(source, answers)
    except (EOFError, BrokenPipeError):
        sys.exit(0)
    except BaseException:  # noqa: BLE001 - the exit status is the only way to report it
        os._exit(INTERNAL_ERROR)


def _serve(source: IO[bytes], answers: IO[bytes]) -> None:
    import json

    from PIL import AvifImagePlugin, Image, PngImagePlugin

    from penult.errors import ImageError
    from penult.pipeline.images.decode import OUT_OF_MEMORY, decode_to_image

    Image.preinit()
    PngImagePlugin.MAX_TEXT_CHUNK = _MAX_TEXT_BYTES
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each core already has a decoder
    content = json.loads(receive(source)[1])
    preprocessing = _preprocessing(content["preprocessing"])
    large_lock = _LargeLock(source, answers, content["seconds"])
    _limit_memory(content["megabytes"] << 20)
    while True:
        _, data = receive(source)
        _start_timer(content["seconds"])
        try:
            kind, answer = PIXELS, decode_to_image(data, preprocessing, large_lock).tobytes()
        except ImageError as error:
            kind, answer = REASON, str(error).encode("utf-8", "backslashreplace")
        except MemoryError:
            kind, answer = REASON, OUT_OF_MEMORY.encode()
        finally:
            faulthandler.cancel_dump_traceback_later()
        del data
        send(answers, kind, answer)


def _preprocessing(content: dict[str, Any]) -> "Preprocessing":
    """Returns an object with the attributes of the card's class, whose module would import onnx."""
    decoding = SimpleNamespace(**content.pop("decoding"))
    return cast("Preprocessing", SimpleNamespace(**content, decoding=decoding))


def _limit_memory(size_bytes: int) -> None:
    """Limits the process to its current memory plus ``size_bytes``, if the system supports such a limit."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - saves importing pathlib
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + size_bytes, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not write a core file
