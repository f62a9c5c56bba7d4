"""The mount table decides which folders other machines may share."""

from pathlib import Path

import pytest

from penult.store.files import local
from penult.store.files.local import may_be_shared

LINES = r"""22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /shared rw,relatime shared:9 master:1 - nfs4 server:/export rw,vers=4.2
31 30 253:1 / /shared/local rw - xfs /dev/vdb rw
32 22 0:41 / /mnt/my\040photos rw - fuse.sshfs me@host:/photos rw
33 22 0:42 / /mnt/stick rw - fuseblk /dev/sda1 rw
34 22 253:2 / /twice rw - ext4 /dev/vdc rw
35 22 0:43 / /twice rw - cifs //host/share rw
"""


@pytest.mark.parametrize(
    ("folder", "is_shared"),
    [
        ("/home/me/features", False),
        ("/shared", True),
        ("/shared/deep/features", True),
        ("/sharedness", False),
        ("/shared/local/features", False),
        ("/mnt/my photos/features", True),
        ("/mnt/stick", False),
        ("/twice", True),
    ],
)
def test_the_nearest_mount_decides(
    folder: str, is_shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(LINES)
    monkeypatch.setattr(local, "MOUNTS", table)
    assert may_be_shared(Path(folder)) == is_shared


def test_a_link_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 253:0 / / rw - ext4 /dev/vda rw\n23 22 0:40 / {tmp_path}/far rw - nfs server:/export rw\n")
    monkeypatch.setattr(local, "MOUNTS", table)
    assert may_be_shared(tmp_path / "near")
    assert not may_be_shared(tmp_path)


def test_without_a_mount_table_a_folder_may_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MOUNTS", tmp_path / "none")
    assert may_be_shared(tmp_path)
