"""Lets long work end whole: the first Ctrl-C or SIGTERM asks it to stop, the second one stops it at once.

The end of its time asks it to stop as well, and is no interruption.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

WORKERS = "penult-worker"
"""How threads are called that may be left, with an image of which nothing comes, when the program ends."""


class StopSignal:
    """Whether the work is to stop at the next place where it is whole, and why: ``interrupted`` or ``max_seconds``."""

    def __init__(self, max_seconds: float | None = None) -> None:
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self.reason = ""

    @property
    def is_set(self) -> bool:
        """Whether to stop; once true, it stays so."""
        if not self.reason and self._deadline is not None and time.monotonic() >= self._deadline:
            self.reason = "max_seconds"
        return bool(self.reason)

    def interrupt(self) -> None:
        """Asks the work to stop because somebody wishes it."""
        self.reason = "interrupted"


@contextmanager
def stop_on_signals(max_seconds: float | None = None) -> Iterator[StopSignal]:
    """Turns SIGINT and SIGTERM into `StopSignal.is_set` while the block runs, and raises KeyboardInterrupt after it.

    Outside the main thread, where Python allows no signal handlers, signals change nothing.
    """
    stop = StopSignal(max_seconds)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.reason == "interrupted":
            raise KeyboardInterrupt
        stop.interrupt()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.reason == "interrupted":
        raise KeyboardInterrupt
