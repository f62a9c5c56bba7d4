"""What decoding one image may cost, as plain values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DecodeLimits:
    """What one image may take: ``seconds`` of time, and ``megabytes`` of memory while it is decoded."""

    seconds: float = 60.0
    megabytes: int = 512
