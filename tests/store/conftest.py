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
def tmp_path() -> Iterator[Path]:
    """A temporary folder, in memory if possible: a store flushes often, and a flush takes milliseconds on a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, ignore_cleanup_errors=True) as folder:
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
