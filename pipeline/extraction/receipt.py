"""The receipt of an extraction, and its metrics in the OpenMetrics text format."""

import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from penult.errors import InputError
from penult.pipeline.progress import format_seconds


@dataclass
class Receipt:
    """What one run of `extract` did. ``found`` = ``new`` + ``reused`` + ``failed``, unless it stopped early.

    ``stopped`` is ``interrupted``, ``max_seconds`` or ``error``, or empty if the run finished. ``distinct_keys`` is the
    number of distinct samples whose rows were checked in every space at the end; only the Ray engine counts them.
    """

    found: int = 0
    new: int = 0
    reused: int = 0
    failed: int = 0
    newly_failed: int = 0  # failed images that were not in the ledger before
    rows: int = 0
    seconds: float = 0.0
    spaces: list[str] = field(default_factory=list)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    engine: str = "local"
    actors: int = 0  # most actors of the Ray engine at one time
    lost_actors: int = 0  # actors that died; their work was repeated
    distinct_keys: int | None = None
    workers: int = 0  # per process, or per actor
    provider: str = ""
    why_not_better: str = ""  # why no faster provider was used
    note: str = ""  # why the job could not share work with other jobs
    is_complete: bool = False
    stopped: str = ""

    def __post_init__(self) -> None:
        self._began = time.perf_counter()

    def now(self) -> Self:
        """Returns this receipt with the elapsed time."""
        self.seconds = time.perf_counter() - self._began
        return self

    @property
    def done(self) -> int:
        """Number of images with a result so far."""
        return self.new + self.reused + self.failed

    @property
    def images_per_second(self) -> float:
        """New images per second of the whole run."""
        return self.new / self.seconds if self.seconds else 0.0

    @property
    def shares(self) -> dict[str, float]:
        """Each stage's share of the busy time of workers and writer."""
        total = sum(self.stage_seconds.values())
        return {stage: seconds / total for stage, seconds in self.stage_seconds.items()} if total else {}

    def format_shares(self) -> str:
        """Returns the shares as text, largest first.

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
            lost = f"; {self.lost_actors:,} were lost and their work was repeated" if self.lost_actors else ""
            text += f"\nactors: {self.actors:,} with {self.workers} workers each{lost}"
        if self.distinct_keys is not None:
            text += f"\nsamples: {self.distinct_keys:,} distinct keys, each found in every space"
        if self.why_not_better:
            text += f"\nIt ran on {self.provider}: {self.why_not_better}."
        if self.note:
            text += f"\nNote: {self.note}."
        if self.stopped == "max_seconds":
            text += f"\nThe time limit was reached; {self.found - self.done:,} images are left for the next run."
        return text


INTERVAL_SECONDS = 10.0


class MetricsFile:
    """Writes the metrics of a job to a file, replaced as a whole each time; a path of None writes nothing."""

    def __init__(self, path: str | Path | None) -> None:
        self._path = None if path is None else Path(path)
        self._due = 0.0

    def write(self, receipt: Receipt, *, is_over: bool = False) -> None:
        """Writes the metrics if the last ones are old or the job is over."""
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
                expected="a file in an existing, writable folder",
            ) from error


def openmetrics_text(receipt: Receipt, *, is_over: bool) -> str:
    """Returns the metrics in the OpenMetrics text format; prometheus_client is only in the extra ``serve``.

    >>> print(openmetrics_text(Receipt(found=3, new=2, failed=1), is_over=True).splitlines()[5])
    penult_extract_images_total{outcome="new"} 2
    """
    outcomes = {f'{{outcome="{name}"}}': getattr(receipt, name) for name in ("new", "reused", "failed")}
    stages = {f'{{stage="{stage}"}}': f"{seconds:.3f}" for stage, seconds in receipt.stage_seconds.items()}
    families: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
        ("found_images", "gauge", "Images that the job found.", {"": receipt.found}),
        ("images", "counter", "Images with a result, by outcome.", outcomes),
        ("newly_failed_images", "gauge", "Failed images that were not in the ledger.", {"": receipt.newly_failed}),
        ("rows", "counter", "Rows committed to the store.", {"": receipt.rows}),
        ("busy_seconds", "counter", "Busy time of each stage, in all workers.", stages),
        ("duration_seconds", "gauge", "Duration of the job.", {"": f"{receipt.seconds:.3f}"}),
        ("lost_actors", "gauge", "Actors that died, whose work was repeated.", {"": receipt.lost_actors}),
        ("running", "gauge", "1 while the job runs, 0 when it is over.", {"": int(not is_over)}),
        ("complete", "gauge", "1 if the job processed all its images.", {"": int(receipt.is_complete)}),
        ("written_timestamp_seconds", "gauge", "When this file was written.", {"": f"{time.time():.3f}"}),
    )
    lines = []
    for name, kind, meaning, values in families:
        suffix = "_total" if kind == "counter" else ""
        lines += [f"# TYPE penult_extract_{name} {kind}", f"# HELP penult_extract_{name} {meaning}"]
        lines += [f"penult_extract_{name}{suffix}{labels} {value}" for labels, value in values.items()]
    return "\n".join([*lines, "# EOF"]) + "\n"
