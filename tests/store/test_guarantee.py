"""The guarantee of docs/store.md, sentence by sentence."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.rig.powerloss import lose_power_everywhere
from tests.store.rig.shim import run_under

FAULTS = {
    "kill": ("kill", 0),
    "kill in the middle of a write": ("tear", 0),
    "a full disk": ("full", errno.ENOSPC),
    "one refusal for want of room": ("fail", errno.ENOSPC),
    "one failing operation": ("fail", errno.EIO),
    "one short write": ("short", 0),
    "one failing read": ("fail-read", errno.EIO),
}


def make_go_wrong(shim: Path, folder: Path, fault: str, first: int, stride: int) -> None:
    kind, error = FAULTS[fault]
    result = run_under(shim, "campaign", kind, str(error), str(folder), str(first), str(stride))
    assert result.returncode == 0, result.stderr
    last, tries = map(int, result.stdout.split())
    assert last > 100
    assert tries >= last // stride


@pytest.mark.parametrize(("fault", "first"), [(fault, first) for first, fault in enumerate(FAULTS, start=1)])
def test_when_add_returns_its_rows_are_durable_through(fault: str, first: int, shim: Path, memory_path: Path) -> None:
    """And if it raises or dies, the batch is there whole or not at all, and doing it again is harmless."""
    make_go_wrong(shim, memory_path, fault, first, stride=8)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_when_add_returns_its_rows_are_durable_through_every(fault: str, shim: Path, memory_path: Path) -> None:
    make_go_wrong(shim, memory_path, fault, first=1, stride=1)


def lose_power(shim: Path, folder: Path, workload: str, losses: int) -> None:
    top = folder / "recorded"
    top.mkdir()
    result = run_under(shim, "record", str(folder / "log"), str(top), workload)
    assert result.returncode == 0, result.stderr
    assert lose_power_everywhere(folder / "log", top, folder / "left", losses) > 60 * losses


@pytest.mark.parametrize("workload", ["steps", "steps_after_dead_processes"])
def test_when_add_returns_its_rows_survive_the_loss_of_power(workload: str, shim: Path, memory_path: Path) -> None:
    lose_power(shim, memory_path, workload, losses=2)


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["steps", "steps_after_dead_processes"])
def test_when_add_returns_its_rows_survive_many_losses_of_power(workload: str, shim: Path, memory_path: Path) -> None:
    lose_power(shim, memory_path, workload, losses=50)


def live_in_a_crowd(folder: Path, seconds: float) -> None:
    command = [sys.executable, "-m", "tests.store.rig.crowd", str(folder), str(seconds), "0"]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    kills, batches = map(int, result.stdout.split())
    assert kills > 2 * seconds
    assert batches > 2 * seconds


def test_any_number_may_run_at_once_and_die(memory_path: Path) -> None:
    live_in_a_crowd(memory_path, seconds=5)


@pytest.mark.slow
def test_any_number_may_run_at_once_and_die_for_long(memory_path: Path) -> None:
    live_in_a_crowd(memory_path, seconds=60)


def test_none_takes_a_lock(shim: Path, memory_path: Path) -> None:
    result = run_under(shim, "stalls", str(memory_path), "3", "12")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 10


@pytest.mark.slow
def test_none_takes_a_lock_at_any_operation(shim: Path, memory_path: Path) -> None:
    result = run_under(shim, "stalls", str(memory_path), "1", "1")
    assert result.returncode == 0, result.stderr
