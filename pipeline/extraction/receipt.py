"""What a job did, in figures that a person and a scheduler can check."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from penult.pipeline.progress import spell_seconds


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

    def spell_shares(self) -> str:
        """Spells the shares, the largest first.

        >>> Receipt(stage_seconds={"read": 0.5, "decode": 6.0, "session": 3.5}).spell_shares()
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
        took = f"in {spell_seconds(self.seconds)}"
        digits = 0 if self.images_per_second >= 10 else 1
        rate = f", {self.images_per_second:,.{digits}f} images/s on {self.provider}" if self.new else ""
        images, rows = "image" if self.found == 1 else "images", "row" if self.rows == 1 else "rows"
        text = (
            f"{self.found:,} {images} found: {self.new:,} new, {self.reused:,} reused, {self.failed:,} failed; "
            f"{self.rows:,} {rows} committed {took}{rate}"
        )
        if self.new:
            text += f"\nbusy with: {self.spell_shares()}"
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
