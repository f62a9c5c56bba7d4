"""Compiles the fault shim, and controls it in a process that runs under it."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("shim.c")


def compiled(folder: Path) -> Path:
    """Compiles the shim, or skips the test without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the fault shim needs Linux and a C compiler")
    library = folder / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def run_under(library: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of the rig under the shim."""
    root = SOURCE.parents[3]
    paths = os.pathsep.join(map(str, (root / "src", root)))  # the penult of this checkout, not an installed one
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": paths}
    command = [sys.executable, "-m", f"tests.store.rig.{module}", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


class Levers:
    """Controls the shim that this process runs under."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._arm, self._count, self._log, self._mark = (
            getattr(library, f"shim_{name}") for name in ("arm", "count", "log", "mark")
        )
        self._count.restype = ctypes.c_long

    def arm(self, folder: Path, what: str, at: int = 0, error: int = 0) -> None:
        """Injects a fault into operation ``at`` below the folder."""
        self._arm(str(folder).encode(), what.encode(), ctypes.c_long(at), error)

    def count(self) -> int:
        """Returns the number of operations since ``arm``."""
        return int(self._count())

    def log(self, path: Path) -> None:
        """Records operations from now on."""
        self._log(str(path).encode())

    def mark(self, text: str) -> None:
        """Writes a mark between the recorded operations."""
        self._mark(text.encode())
