"""A place without images: what stands there ends in the ledger, with the reason that the listing found."""

from dataclasses import dataclass

from penult.errors import ImageError
from penult.pipeline.extraction.images import ImageFile


@dataclass(frozen=True)
class Refusal:
    """Gives no bytes, but the reason why."""

    reason: str

    def read(self, file: ImageFile, most_bytes: int) -> bytes:
        """Raises ImageError."""
        raise ImageError(self.reason)


def refused(path: str, reason: str, size: int = -1, mtime_ns: int = 0) -> ImageFile:
    """Returns a file that cannot be used, for ``reason``."""
    return ImageFile(path, size, mtime_ns, place=Refusal(reason))
