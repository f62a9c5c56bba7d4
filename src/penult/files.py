"""Writes files atomically: a reader sees either the old or the new content."""

import os
import tempfile
from pathlib import Path

__all__ = ["replace_file"]


def replace_file(path: Path, data: bytes, *, is_durable: bool = True) -> None:
    """Writes ``data`` to a temporary file and renames it to ``path``; with ``is_durable`` the data is on the disk.

    Files that can be made again need not be durable: after a power loss such a file may be damaged, and its checksum
    shows it.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if is_durable:
                os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
