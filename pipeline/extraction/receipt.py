"""What a job did, in figures that a person and a scheduler can check."""

import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from penult.errors import InputError
from penult.pipeline.progress import format_seconds


@dataclass
class Receipt:
    """The end of one run of `extract`. ``found`` = ``new`` + ``reused`` + ``failed``, unless it was stopped early.

    ``stopped`` tells why it was: ``interrupted``, ``max_seconds`` or ``error``; it is empty where all was done.
    ``distinct_keys`` is how many samples the images found are, each with its rows seen in every space after all was
    done; an engine of many processes counts them, and for others it is None.
    """

    found: int = 0
    new: int = 0
    reused: int = 0
    failed: int = 0
    newly_failed: int = 0  # of the failed ones, those whose row in the ledger is new
    rows: int = 0
    seconds: float = 0.0
    spaces: list[str] = field(default_factory=list)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    engine: str = "local"
    actors: int = 0  # that an engine of many processes had at work at most
    lost_actors: int = 0  # those that died, whose work was done again
    distinct_keys: int | None = None
    workers: int = 0  # of this process, or of each actor
    provider: str = ""
    why_not_better: str = ""  # why no faster provider was taken
    note: str = ""  # why the job could not share its work with others
    is_complete: bool = False
    stopped: str = ""

    def __post_init__(self) -> None:
        self._began = time.perf_counter()

    def now(self) -> Self:
        """Returns this receipt with the time that has passed so far."""
        self.seconds = time.perf_counter() - self._began
        return self

    @property
    def done(self) -> int:
        """How many images have come to an end so far."""
        return self.new + self.reused + self.failed

    @property
    def images_per_second(self) -> float:
        """How many new images were extracted in a second of the whole job."""
        return self.new / self.seconds if self.seconds else 0.0

    @property
    def shares(self) -> dict[str, float]:
        """Each stage's share of the time in which workers and writer were busy."""
        total = sum(self.stage_seconds.values())
        return {stage: seconds / total for stage, seconds in self.stage_seconds.items()} if total else {}

    def format_shares(self) -> str:
        """Spells the shares, the largest first.

        >>> Receipt(stage_seconds={"read": 0.5, "decode": 6.0, "session": 3.5}).format_shares()
        'decode 60 %, session 35 %, read 5 %'
        """
        ordered = sorted(self.shares.items(), key=lambda share: -share[1])
        return ", ".join(f"{stage} {share * 100:.0f} %" for stage, share in ordered)

    def to_json(self) -> dict[str, Any]:
        """Returns the receipt as plain data."""
        return asdict(self) | {
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 1),
            "stage_seconds": {stage: round(seconds, 3) for stage, seconds in self.stage_seconds.items()},
        }

    def __str__(self) -> str:
        took = f"in {format_seconds(self.seconds)}"
        digits = 0 if self.images_per_second >= 10 else 1
        rate = f", {self.images_per_second:,.{digits}f} images/s on {self.provider}" if self.new else ""
        images, rows = "image" if self.found == 1 else "images", "row" if self.rows == 1 else "rows"
        text = (
            f"{self.found:,} {images} found: {self.new:,} new, {self.reused:,} reused, {self.failed:,} failed; "
            f"{self.rows:,} {rows} committed {took}{rate}"
        )
        if self.new:
            text += f"\nbusy with: {self.format_shares()}"
        if self.actors:
            lost = f"; {self.lost_actors:,} were lost, and their work was done again" if self.lost_actors else ""
            text += f"\nactors: {self.actors:,} with {self.workers} workers each{lost}"
        if self.distinct_keys is not None:
            text += f"\nsamples: {self.distinct_keys:,} distinct keys, each seen in every space"
        if self.why_not_better:
            text += f"\nIt ran on {self.provider}: {self.why_not_better}."
        if self.note:
            text += f"\nNote: {self.note}."
        if self.stopped == "max_seconds":
            text += f"\nThe time was over; {self.found - self.done:,} images are left for the next run."
        return text


INTERVAL_SECONDS = 10.0


class MetricsFile:
    """Writes a job's figures into a file, each time whole; ``None`` for the path writes nothing."""

    def __init__(self, path: str | Path | None) -> None:
        self._path = None if path is None else Path(path)
        self._due = 0.0

    def write(self, receipt: Receipt, *, is_over: bool = False) -> None:
        """Writes the figures if the last ones are old, or if the job is over."""
        if self._path is None or (time.monotonic() < self._due and not is_over):
            return
        self._due = time.monotonic() + INTERVAL_SECONDS
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            draft.write_text(openmetrics_text(receipt, is_over=is_over), encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise InputError(
                f"The metrics cannot be written to {self._path}: {error.strerror or error}",
                expected="a file in a folder that is there and may be written",
            ) from error


def openmetrics_text(receipt: Receipt, *, is_over: bool) -> str:
    """Returns the figures in the OpenMetrics text format.

    >>> print(openmetrics_text(Receipt(found=3, new=2, failed=1), is_over=True).splitlines()[5])
    penult_extract_images_total{outcome="new"} 2
    """
    outcomes = {"new": receipt.new, "reused": receipt.reused, "failed": receipt.failed}
    lines = [
        *_family("penult_extract_found_images", "gauge", "Images that the job found."),
        f"penult_extract_found_images {receipt.found}",
        *_family("penult_extract_images", "counter", "Images that have come to an end, by outcome."),
        *(f'penult_extract_images_total{{outcome="{name}"}} {count}' for name, count in outcomes.items()),
        *_family("penult_extract_newly_failed_images", "gauge", "Failed images that the ledger did not know."),
        f"penult_extract_newly_failed_images {receipt.newly_failed}",
        *_family("penult_extract_rows", "counter", "Rows committed to the store."),
        f"penult_extract_rows_total {receipt.rows}",
        *_family("penult_extract_busy_seconds", "counter", "Time in which each stage was busy, in all workers."),
        *(
            f'penult_extract_busy_seconds_total{{stage="{stage}"}} {seconds:.3f}'
            for stage, seconds in receipt.stage_seconds.items()
        ),
        *_family("penult_extract_duration_seconds", "gauge", "How long the job has run."),
        f"penult_extract_duration_seconds {receipt.seconds:.3f}",
        *_family("penult_extract_lost_actors", "gauge", "Processes on a cluster that died, whose work was done again."),
        f"penult_extract_lost_actors {receipt.lost_actors}",
        *_family("penult_extract_running", "gauge", "1 while the job runs, 0 when it is over."),
        f"penult_extract_running {0 if is_over else 1}",
        *_family("penult_extract_complete", "gauge", "1 where the job came to the end of its images."),
        f"penult_extract_complete {1 if receipt.is_complete else 0}",
        *_family("penult_extract_written_timestamp_seconds", "gauge", "When this file was written."),
        f"penult_extract_written_timestamp_seconds {time.time():.3f}",
        "# EOF",
    ]
    return "\n".join(lines) + "\n"


def _family(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# TYPE {name} {kind}", f"# HELP {name} {meaning}"]
