"""Which folders other machines may have in use at the same time, as this machine's table of mounts tells."""

import re
from pathlib import Path

__all__ = ["may_be_shared"]

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
