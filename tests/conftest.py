"""What all tests share: real images where they are to be had, and a home of their own for everything else."""

from pathlib import Path

import pytest

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
