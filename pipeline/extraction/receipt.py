"""What a job did, in figures that a person and a scheduler can check."""

from dataclasses import asdict, dataclass, field
from typing import Any

from penult.pipeline.progress import spell_seconds


@dataclass
class Receipt:
    """The end of one run of `extract`. ``found`` = ``new`` + ``reused`` + ``failed``, unless it was stopped early."""

    found: int = 0
    new: int = 0
    reused: int = 0
    failed: int = 0
    newly_failed: int = 0  # of the failed ones, those whose row in the ledger is new
    rows: int = 0
    seconds: float = 0.0
    spaces: list[str] = field(default_factory=list)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    workers: int = 0
    provider: str = ""
    is_complete: bool = False

    @property
    def images_per_second(self) -> float:
        """How many new images were extracted in a second of the whole job."""
        return self.new / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns the receipt as plain data."""
        return asdict(self) | {
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 1),
            "stage_seconds": {stage: round(seconds, 3) for stage, seconds in self.stage_seconds.items()},
        }

    def __str__(self) -> str:
        took = f"in {spell_seconds(self.seconds)}"
        rate = f", {self.images_per_second:,.0f} images/s on {self.provider}" if self.new else ""
        return (
            f"{self.found:,} images found: {self.new:,} new, {self.reused:,} reused, {self.failed:,} failed; "
            f"{self.rows:,} rows committed {took}{rate}"
        )
