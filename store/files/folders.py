"""Looking into the folders of a store, without following links out of it."""

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from penult.store.files.places import ObjectPath, Place

__all__ = ["may_be_shared", "names_in", "open_plain", "passing_folder", "size_and_change", "sizes_of"]


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


TABLE = Path("/proc/self/mountinfo")

SHARED = {
    *("9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2"),
    *("panfs", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "wekafs"),
}
"""File systems of a network, or of a host and its guests; those of FUSE may be any."""


def may_be_shared(folder: Path) -> bool:
    """Returns whether other machines may have a folder mounted; where nothing tells, they may."""
    try:
        lines = TABLE.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # there is such a table on Linux alone
        return True
    real, kinds = folder.resolve(), dict(map(_mount, lines))
    kind = next((kinds[place] for place in (real, *real.parents) if place in kinds), "")
    return kind in SHARED or kind.partition(".")[0] in {"fuse", ""}


def _mount(line: str) -> tuple[Path, str]:
    """Returns where something is mounted, and its kind; what is mounted last hides what was mounted there before."""
    words, _, rest = line.partition(" - ")
    place = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), words.split()[4])
    return Path(place), rest.split()[0]
