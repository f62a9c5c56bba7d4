"""What all tests share: real images where they are available, and the group of integration tests."""

import os
from pathlib import Path

import pytest

# Numerical libraries start one thread per core, and waiting threads spin. Each test process uses its share of cores.
# The libraries read this variable when they are loaded, so it is set here.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    cores = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))

PROJECT = Path(__file__).parents[1]
SHARED_DATA = PROJECT.parent / "shared" / "data"


# Tests that use one of these fixtures are integration tests.
INTEGRATION_FIXTURES = {"browser", "torchvision", "wheel_venv"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the integration tests."""
    for item in items:
        if INTEGRATION_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def project() -> Path:
    """The repository's root."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images and weights, stored next to the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real images and weights are not at {SHARED_DATA}")
    return SHARED_DATA
