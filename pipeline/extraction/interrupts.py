"""Lets long work end whole: the first Ctrl-C or SIGTERM asks it to stop, the second one stops it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether somebody has asked the work to stop."""

    def __init__(self) -> None:
        self.is_asked = False

    def ask(self) -> None:
        """Asks the work to stop at the next place where it is whole."""
        self.is_asked = True


@contextmanager
def stop_when_interrupted() -> Iterator[Stop]:
    """Turns SIGINT and SIGTERM into `Stop.is_asked` while the block runs, and raises KeyboardInterrupt after it.

    Outside the main thread, where Python allows no signal handlers, nothing changes and the block is never asked.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_asked:
            raise KeyboardInterrupt
        stop.ask()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.is_asked:
        raise KeyboardInterrupt
