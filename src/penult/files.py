"""Puts a file under its name in one step, so that a reader sees the old content or the new and nothing between."""

import os
import tempfile
from pathlib import Path

__all__ = ["replace_file"]


def replace_file(path: Path, data: bytes, *, is_durable: bool = True) -> None:
    """Writes ``data`` beside ``path`` and renames it; durable files are on the disk when this returns.

    What can be made anew need not be durable: after a power loss such a file may be torn, which its checksum tells.
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
