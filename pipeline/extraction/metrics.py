"""Metrics of a running job as an OpenMetrics text file, for a collector that reads files beside it."""

import os
import time
from pathlib import Path

from penult.errors import InputError
from penult.pipeline.extraction.receipt import Receipt

INTERVAL_SECONDS = 10.0


class Metrics:
    """Writes a job's figures into a file, each time whole; ``None`` for the path writes nothing."""

    def __init__(self, path: str | Path | None) -> None:
        self._path = None if path is None else Path(path)
        self._due = 0.0

    def tell(self, receipt: Receipt, *, is_over: bool = False) -> None:
        """Writes the figures if the last ones are old, or if the job is over."""
        if self._path is None or (time.monotonic() < self._due and not is_over):
            return
        self._due = time.monotonic() + INTERVAL_SECONDS
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            draft.write_text(metrics_text(receipt, is_over=is_over), encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise InputError(
                f"The metrics cannot be written to {self._path}: {error.strerror or error}",
                expected="a file in a folder that is there and may be written",
            ) from error


def metrics_text(receipt: Receipt, *, is_over: bool) -> str:
    """Returns the figures in the OpenMetrics text format.

    >>> print(metrics_text(Receipt(found=3, new=2, failed=1), is_over=True).splitlines()[5])
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
