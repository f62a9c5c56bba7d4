"""What decoding one image may cost, as plain values."""

from dataclasses import dataclass

TOO_TIGHT = (
    "the image needs more memory than it may have. What to do: where that is no fault of the image, allow more with "
    "--image-megabytes, and try it again with --retry-failed."
)
"""The reason of an image that cannot be decoded within its memory."""


@dataclass(frozen=True)
class DecodeLimits:
    """What one image may take: ``seconds`` of time, and ``megabytes`` of memory while it is decoded."""

    seconds: float = 60.0
    megabytes: int = 512
