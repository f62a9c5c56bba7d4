"""Looking into the folders of a store, without following links out of it."""

import os
from pathlib import Path


def names_in(folder: Path) -> list[str]:
    """Lists the names in a folder, in no order; none where there is no folder, for some copies leave out empty ones."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def open_plain(path: Path) -> int:
    """Opens a file for reading and returns its descriptor; a symbolic link is an ``OSError``."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
