"""Looking into the folders of a store, without following links out of it."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from penult.store.objects.places import ObjectPath, Place


def names_in(folder: Place) -> list[str]:
    """Lists the names in a folder, in no order; none where there is no folder, for some copies leave out empty ones."""
    if isinstance(folder, ObjectPath):
        return folder.bucket.names(folder.key)
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def sizes_of(folder: Place, names: Sequence[str]) -> list[int]:
    """Returns the bytes of files; a missing one is a ``FileNotFoundError``."""
    if isinstance(folder, ObjectPath):
        return [folder.bucket.size(f"{folder.key}/{name}") for name in names]
    return [(folder / name).lstat().st_size for name in names]


def size_and_change(place: Place) -> tuple[int, float]:
    """Returns the bytes of a file, and when it came to where it is; a missing one is a ``FileNotFoundError``."""
    if isinstance(place, ObjectPath):
        return place.bucket.size(place.key), place.bucket.changed(place.key)
    status = place.lstat()
    return status.st_size, status.st_ctime


def open_plain(path: Path) -> int:
    """Opens a file for reading and returns its descriptor; a symbolic link is an ``OSError``."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def passing_folder(owner: object) -> Path:
    """Makes a folder that is there as long as its owner."""
    folder = tempfile.mkdtemp(prefix="penult-")
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
