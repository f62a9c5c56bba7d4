"""The guarantee of docs/store.md, sentence by sentence."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penult.errors import StoreDamagedError, StoreWriteError
from penult.store import Space, open_store
from penult.store.files.local import LocalPath
from penult.store.shards.container import open_container
from penult.store.spaces.lookup import Lookup
from tests.store.rig.powerloss import lose_power_everywhere
from tests.store.rig.samples import SPEC, add, batches_in, keys_of, rows_of
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
def test_when_add_returns_its_rows_are_durable_through(fault: str, first: int, shim: Path, tmp_path: Path) -> None:
    """If ``add`` raises or dies, the batch is stored completely or not at all, and adding it again is harmless."""
    make_go_wrong(shim, tmp_path, fault, first, stride=16)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_when_add_returns_its_rows_are_durable_through_every(fault: str, shim: Path, tmp_path: Path) -> None:
    make_go_wrong(shim, tmp_path, fault, first=1, stride=1)


def lose_power(shim: Path, folder: Path, workload: str, losses: int) -> None:
    top = folder / "recorded"
    top.mkdir()
    result = run_under(shim, "record", str(folder / "log"), str(top), workload)
    assert result.returncode == 0, result.stderr
    assert lose_power_everywhere(folder / "log", top, folder / "left", losses) > 60 * losses


@pytest.mark.parametrize("workload", ["steps", "steps_after_dead_processes"])
def test_when_add_returns_its_rows_survive_the_loss_of_power(workload: str, shim: Path, tmp_path: Path) -> None:
    lose_power(shim, tmp_path, workload, losses=1)


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["steps", "steps_after_dead_processes"])
def test_when_add_returns_its_rows_survive_many_losses_of_power(workload: str, shim: Path, tmp_path: Path) -> None:
    lose_power(shim, tmp_path, workload, losses=50)


def test_when_add_returns_its_rows_survive_a_disk_that_is_really_full(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(300_000))
    space, added = open_store(small_disk / "store").space(SPEC), 0
    while shutil.disk_usage(small_disk).free > 100_000:
        add(space, added)
        added += 1
    assert added > 20
    for _ in range(3):
        with pytest.raises(StoreWriteError, match="No space left"):
            add(space, added, rows=20_000)
    again = open_store(small_disk / "store").space(SPEC)
    assert batches_in(again, added + 1) == set(range(added))
    (small_disk / "filler").unlink()
    add(again, added)
    assert batches_in(again, added + 1) == set(range(added + 1))


def test_a_batch_is_visible_whole_or_not_at_all(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    other, keys = open_store(space.path.parents[1]).space(SPEC), keys_of(0, 40_000)
    seen: list[int] = []

    for name in ("pwrite", "fsync", "open", "close", "unlink"):
        operation = getattr(os, name)

        def watched(*arguments: object, operation: Callable[..., object] = operation) -> object:
            if len(seen) % 2 == 0:  # the reader's own operations are not watched
                seen.append(-1)
                seen[-1] = len(other)
                seen.append(seen[-1])
            return operation(*arguments)

        monkeypatch.setattr(os, name, watched)
    space.add(keys, rows_of(keys))
    monkeypatch.undo()
    assert set(seen) == {0, 40_000}
    assert len(seen) > 10


def test_a_read_returns_exactly_the_committed_set_of_one_moment(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    add(space, 0)
    other, finding = open_store(space.path.parents[1]).space(SPEC), Lookup.table

    def overtaken(lookup: Lookup) -> object:
        add(other, 1)
        add(other, 2)
        return finding(lookup)

    monkeypatch.setattr(Lookup, "table", overtaken)
    assert {key.tobytes() for key in space.load().keys} == {key.tobytes() for key in keys_of(0)}
    monkeypatch.undo()
    assert batches_in(space) == {0, 1, 2}


def test_a_read_never_returns_a_row_whose_checksum_does_not_match(space: Space) -> None:
    add(space, 0, rows=300)
    keys, shard = keys_of(0, 300), next((space.path / "shards").iterdir())
    with open_container(LocalPath(shard)) as file:
        section = file.layout.sections["features"]
    content = bytearray(shard.read_bytes())
    content[section.offset + section.size_bytes // 2] ^= 1
    shard.write_bytes(content)
    refused = 0
    for key in keys:
        try:
            assert np.array_equal(space.gather([key.tobytes()]), rows_of(key[None]))
        except StoreDamagedError:
            refused += 1
    assert refused == 1
    with pytest.raises(StoreDamagedError):
        space.load()


@pytest.mark.parametrize("section", ["features", "keys"])
def test_a_read_never_returns_a_row_under_another_key(space: Space, section: str) -> None:
    add(space, 0, rows=300)
    shard = next((space.path / "shards").iterdir())
    with open_container(LocalPath(shard)) as file:
        start = file.layout.sections[section].offset
        size = file.layout.sections[section].size_bytes // 300
    content = bytearray(shard.read_bytes())
    one, other = (slice(start + size * row, start + size * (row + 1)) for row in (10, 200))
    content[one], content[other] = content[other], content[one]
    shard.write_bytes(content)
    with pytest.raises(StoreDamagedError):
        space.load()
    with pytest.raises(StoreDamagedError):
        space.gather(keys_of(0, 300))


def live_in_a_crowd(folder: Path, seconds: float) -> None:
    command = [sys.executable, "-m", "tests.store.rig.crowd", str(folder), str(seconds), "0"]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    kills, batches = map(int, result.stdout.split())
    assert kills > 2 * seconds
    assert batches > 2 * seconds


def test_any_number_may_run_at_once_and_die(tmp_path: Path) -> None:
    live_in_a_crowd(tmp_path, seconds=5)


@pytest.mark.slow
def test_any_number_may_run_at_once_and_die_for_long(tmp_path: Path) -> None:
    live_in_a_crowd(tmp_path, seconds=60)


def test_none_takes_a_lock(shim: Path, tmp_path: Path) -> None:
    result = run_under(shim, "stalls", str(tmp_path), "3", "12")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 10


@pytest.mark.slow
def test_none_takes_a_lock_at_any_operation(shim: Path, tmp_path: Path) -> None:
    result = run_under(shim, "stalls", str(tmp_path), "1", "1")
    assert result.returncode == 0, result.stderr


def test_no_clock_is_read_for_correctness(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> float:
        raise AssertionError("a clock was read")

    add(space, 0)
    for clock in ("time", "time_ns"):
        monkeypatch.setattr(time, clock, refuse)
    for batch in (1, 2):
        add(space, batch)
    space.checkpoint()
    add(space, 3)
    for path in space.path.rglob("*"):
        os.utime(path, (0, 2**33 if path.name < "8" else 0))
    space.compact()
    assert batches_in(space) == {0, 1, 2, 3}
    assert space.verify().is_sound


ADDITIONS = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2)), min_size=1, max_size=6, unique_by=lambda x: x[0])
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture]


@settings(max_examples=15, deadline=None, suppress_health_check=QUIET)
@given(st.data())
def test_the_same_rows_give_the_same_answer_whatever_order_names_or_compaction_produced_it(
    tmp_path: Path, data: st.DataObject
) -> None:
    keys, answers = keys_of(0, 12), []
    batches = data.draw(st.lists(ADDITIONS, min_size=1, max_size=5))
    for _ in ("one", "other"):
        # A new folder each time, because an aborted Hypothesis example leaves its folder behind.
        space = open_store(tmp_path / uuid4().hex).space(SPEC)
        for batch in data.draw(st.permutations(batches)):
            for key, variant in data.draw(st.permutations(batch)):
                space.add(keys[[key]], rows_of(keys[[key]]) + variant)
            if data.draw(st.booleans()):
                space.compact()
        answers.append(space.load())
    assert np.array_equal(answers[0].keys, answers[1].keys)
    assert np.array_equal(answers[0].features, answers[1].features)
