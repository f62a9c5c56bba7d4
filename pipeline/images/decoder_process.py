"""The program of a decoder: a process that turns files' bytes into pixels until its input ends.

It lives apart so that an image which crashes Pillow, or keeps it busy for ever, or makes it take all the memory, ends
this process and nothing else. What the libraries below Pillow print and warn of is not heard.

Each message begins with one byte for its kind and eight for its length.
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
"""What a decoder is sent: how to decode, an image to decode, and the leave to decode a large one."""

PIXELS, REASON, LARGE = b"PRL"
"""What it answers: pixels, the reason why there are none, and that it needs leave because the image is large."""

TOO_SLOW = 1
"""The exit status of a decoder whose time was over; it is that of `faulthandler`'s watch."""

FAULTY = 3
"""The exit status of a decoder with an error of its own."""

_HEAD_BYTES, _PART_BYTES = 9, 1 << 20

# What texts and profiles in a PNG may unpack to. They are ignored, and so no reason to refuse an image but as a bomb.
_TEXT_BYTES = 1 << 24


def send(stream: IO[bytes], kind: int, content: bytes = b"") -> None:
    """Writes one message to an unbuffered stream, which may take it piece by piece.

    A small one goes at once, so that it wakes its reader once.
    """
    head = kind.to_bytes(1, "little") + len(content).to_bytes(8, "little")
    for part in (head + content,) if len(content) <= _PART_BYTES else (head, content):
        view, start = memoryview(part), 0
        while start < len(view):
            start += stream.write(view[start:])


def receive(stream: IO[bytes]) -> tuple[int, bytes]:
    """Reads one message; raises EOFError where the other side is gone."""
    head = _read(stream, _HEAD_BYTES)
    return head[0], _read(stream, int.from_bytes(head[1:], "little"))


def _read(stream: IO[bytes], size: int) -> bytes:
    """Returns bytes, of which a file in memory needs no copy: they may be hundreds of megabytes."""
    gathered = io.BytesIO()
    while (left := size - gathered.tell()) > 0:
        part = stream.read(min(left, _PART_BYTES))
        if not part:
            raise EOFError
        gathered.write(part)
    return gathered.getvalue()


class _Leave:
    """Asks, when it is entered, for the leave to decode a large image."""

    def __init__(self, source: IO[bytes], answers: IO[bytes]) -> None:
        self._source, self._answers = source, answers
        self.seconds = 0.0

    def __enter__(self) -> None:
        faulthandler.cancel_dump_traceback_later()  # the time of others' images does not count
        send(self._answers, LARGE)
        receive(self._source)
        _watch(self.seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def _watch(seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True)


def main() -> None:
    """Decodes until the input ends."""
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):  # so that what a library prints is no answer
        os.dup2(nothing, descriptor)
    warnings.simplefilter("ignore")
    try:
        _serve(source, answers)
    except (EOFError, BrokenPipeError):
        sys.exit(0)
    except BaseException:  # noqa: BLE001 - there is nobody to tell but by the exit status
        os._exit(FAULTY)


def _serve(source: IO[bytes], answers: IO[bytes]) -> None:
    import json

    from PIL import AvifImagePlugin, Image, PngImagePlugin

    from penult.errors import ImageError
    from penult.pipeline.images.decode import OUT_OF_MEMORY, decode_to_image

    Image.preinit()
    PngImagePlugin.MAX_TEXT_CHUNK = _TEXT_BYTES
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there are as many decoders as cores
    content = json.loads(receive(source)[1])
    preprocessing = _preprocessing(content["preprocessing"])
    leave = _Leave(source, answers)
    leave.seconds = content["seconds"]
    _limit_memory(content["megabytes"] << 20)
    while True:
        _, data = receive(source)
        _watch(leave.seconds)
        try:
            kind, answer = PIXELS, decode_to_image(data, preprocessing, leave).tobytes()
        except ImageError as error:
            kind, answer = REASON, str(error).encode("utf-8", "backslashreplace")
        except MemoryError:
            kind, answer = REASON, OUT_OF_MEMORY.encode()
        finally:
            faulthandler.cancel_dump_traceback_later()
        del data
        send(answers, kind, answer)


def _preprocessing(content: dict[str, Any]) -> "Preprocessing":
    """Gives the plain data the shape of the card's class, whose module would load onnx."""
    decoding = SimpleNamespace(**content.pop("decoding"))
    return cast("Preprocessing", SimpleNamespace(**content, decoding=decoding))


def _limit_memory(size_bytes: int) -> None:
    """Sees to it that no more memory is had than now and ``size_bytes``, where the system knows such a limit."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - pathlib is one module more to load
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + size_bytes, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file of the size of an image
