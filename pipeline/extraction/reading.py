"""Reads the bytes of one image, wherever it lies, and waits for nobody who may never write them."""

import os
import stat

from penult.errors import ImageError
from penult.pipeline.extraction.images import ImageFile

# A file of more bytes than this is no photo, and reading it whole would cost the memory of thousands.
MAX_BYTES = 1 << 28

_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def read_file(file: ImageFile) -> bytes:
    """Returns what the image's file holds.

    Raises:
        ImageError: it can never be read: it is too large, or no regular file.
        OSError, ValueError: it cannot be read now, and perhaps at another time.
    """
    if file.place is not None:
        return file.place.read(file, MAX_BYTES)
    descriptor = os.open(file.path, _READING)  # which waits for nobody where a pipe stands
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageError("it is no regular file")
    with os.fdopen(descriptor, "rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ImageError(f"the file is too large: more than {MAX_BYTES:,} bytes")
    return data
