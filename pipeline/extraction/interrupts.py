"""Stops long work cleanly: the first Ctrl-C or SIGTERM requests a stop, the second one stops at once."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

WORKERS = "penult-worker"
"""Name prefix of worker threads that may still be blocked at exit, for example on a slow server."""


class StopSignal:
    """A request to stop at the next safe point. ``reason`` is ``interrupted``, ``max_seconds`` or empty."""

    def __init__(self, max_seconds: float | None = None) -> None:
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self.reason = ""

    @property
    def is_set(self) -> bool:
        """Whether to stop; once true, it stays true."""
        if not self.reason and self._deadline is not None and time.monotonic() >= self._deadline:
            self.reason = "max_seconds"
        return bool(self.reason)

    def interrupt(self) -> None:
        """Requests a stop on behalf of the user."""
        self.reason = "interrupted"


@contextmanager
def stop_on_signals(max_seconds: float | None = None) -> Iterator[StopSignal]:
    """Sets a `StopSignal` on SIGINT and SIGTERM during the block, and raises KeyboardInterrupt after it.

    Outside the main thread Python allows no signal handlers, so signals are not handled there.
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
