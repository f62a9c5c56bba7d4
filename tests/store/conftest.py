"""Fixtures of the store tests."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from penult.store import Space, open_store
from tests.store.rig import shim as fault_shim
from tests.store.rig.samples import SPEC


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled fault shim."""
    return fault_shim.compiled(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def space(tmp_path: Path) -> Space:
    """An empty space in a new store."""
    return open_store(tmp_path / "store").space(SPEC)


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A folder for many temporary files, in memory if the system supports that."""
    place = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=place if place.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    if not mount or not unmount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield path
    subprocess.run([unmount, "-l", str(path)], check=True)
