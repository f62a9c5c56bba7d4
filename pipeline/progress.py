"""Shows the progress of long work: bars in a terminal, plain lines in a log, nothing for Python callers."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO


class Task(Protocol):
    """One piece of long work."""

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """Counts ``count`` more items as done; ``note`` appears next to the count from then on."""

    def expect(self, total: int) -> None:
        """Sets the number of items that is known so far."""


class Progress(Protocol):
    """Shows the progress of tasks and single lines."""

    @contextmanager
    def task(self, label: str, *, total: int | None = None, unit: str = "images") -> Iterator[Task]:
        """Shows one task while the block runs."""
        ...

    def say(self, line: str) -> None:
        """Prints a line."""


class Silent:
    """Shows nothing; the default of the Python functions."""

    @contextmanager
    def task(self, label: str, *, total: int | None = None, unit: str = "images") -> Iterator[Task]:
        """Shows nothing."""
        yield _NoTask()

    def say(self, line: str) -> None:
        """Shows nothing."""


class _NoTask:
    def advance(self, count: int = 1, *, note: str = "") -> None:
        pass

    def expect(self, total: int) -> None:
        pass


class Lines:
    """Writes a plain line at intervals while a task runs, and when it is done."""

    def __init__(self, stream: TextIO | None = None, *, interval_seconds: float = 60.0) -> None:
        self._stream = stream or sys.stderr
        self._interval_seconds = interval_seconds

    @contextmanager
    def task(self, label: str, *, total: int | None = None, unit: str = "images") -> Iterator[Task]:
        """Writes the lines of one task."""
        task = _LineTask(self, label, total, unit, self._interval_seconds)
        yield task
        task.finish()

    def say(self, line: str) -> None:
        """Writes the line."""
        print(line, file=self._stream, flush=True)


class _LineTask:
    def __init__(self, lines: Lines, label: str, total: int | None, unit: str, interval_seconds: float) -> None:
        self._lines, self._label, self._total, self._unit = lines, label, total, unit
        self._interval_seconds = interval_seconds
        self._done, self._note = 0, ""
        self._began = self._last = time.monotonic()
        self._done_at_last = 0

    def advance(self, count: int = 1, *, note: str = "") -> None:
        self._done += count
        self._note = note or self._note
        now = time.monotonic()
        if now - self._last >= self._interval_seconds:
            self._lines.say(self._line(now))
            self._last, self._done_at_last = now, self._done

    def expect(self, total: int) -> None:
        self._total = total

    def finish(self) -> None:
        self._lines.say(self._line(time.monotonic(), finished=True))

    def _line(self, now: float, *, finished: bool = False) -> str:
        seconds = max(now - self._began, 1e-9)
        # The rate of a running task covers the time since its last line, because stored images took no time.
        rate = self._done / seconds
        if not finished:
            rate = (self._done - self._done_at_last) / max(now - self._last, 1e-9)
        total = "" if self._total is None or finished else f" of {self._total:,}"
        left = ""
        if self._total and rate and not finished:
            left = f", {format_seconds((self._total - self._done) / rate)} left"
        note = f", {self._note}" if self._note else ""
        took = f" in {format_seconds(seconds)}" if finished else ""
        return f"{self._label}: {self._done:,}{total} {self._unit}{took}, {rate:,.1f}/s{left}{note}"


class Bars:
    """Draws a bar with rate and remaining time in a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    @contextmanager
    def task(self, label: str, *, total: int | None = None, unit: str = "images") -> Iterator[Task]:
        """Draws the bar of one task."""
        from rich import progress as rich_progress
        from rich.text import Text

        class Noted(rich_progress.Progress):
            """Bars with the note on a separate line, so that it does not shorten them."""

            def get_renderables(self) -> Iterator[Any]:
                yield from super().get_renderables()
                for task in self.tasks:
                    if task.fields["note"]:
                        yield Text(task.fields["note"], style="dim", no_wrap=True, overflow="ellipsis")

        columns = (
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(bar_width=None),
            rich_progress.TextColumn("{task.fields[count]}"),
            rich_progress.TextColumn("{task.fields[rate]}"),
            rich_progress.TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Noted(*columns, console=self._console, expand=True) as bars:
            handle = bars.add_task(label, total=total, count="", rate="", note="")
            yield _BarTask(bars, handle, unit)

    def say(self, line: str) -> None:
        """Prints a line above the bars."""
        self._console.print(line, highlight=False, markup=False)


class _BarTask:
    def __init__(self, bars, handle, unit) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - rich is imported late
        self._bars, self._handle, self._unit = bars, handle, unit
        self._began, self._done = time.monotonic(), 0

    def advance(self, count: int = 1, *, note: str = "") -> None:
        self._done += count
        task = self._bars.tasks[self._bars.task_ids.index(self._handle)]
        # Rich's speed covers the last half minute, and is None at first.
        speed = task.speed or self._done / max(time.monotonic() - self._began, 1e-9)
        total = "" if task.total is None else f" of {task.total:,.0f}"
        fields = {"note": note} if note else {}
        fields |= {"count": f"{self._done:,}{total} {self._unit}", "rate": f"{speed:,.{0 if speed >= 10 else 1}f}/s"}
        self._bars.update(self._handle, advance=count, **fields)

    def expect(self, total: int) -> None:
        self._bars.update(self._handle, total=total)


def progress_for(stream: TextIO) -> Progress:
    """Returns bars if ``stream`` is a terminal, and lines otherwise."""
    return Bars() if stream.isatty() else Lines(stream)


def format_seconds(seconds: float) -> str:
    """Returns a duration as text.

    >>> format_seconds(3.21), format_seconds(75), format_seconds(7320)
    ('3.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
