"""What all tests share: real images where they are to be had, and a home of their own for everything else."""

import os
from pathlib import Path

import pytest

# Numerical libraries start a thread for each core, and those that wait spin. Where several processes share the tests,
# each keeps to its share of the cores. It is read when a library is loaded, so it must stand here.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    cores = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))

PROJECT = Path(__file__).parents[1]
SHARED_DATA = PROJECT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def project() -> Path:
    """The repository's root."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images and real weights, kept beside the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real images and weights are not at {SHARED_DATA}")
    return SHARED_DATA
