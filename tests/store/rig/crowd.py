"""Runs writers, compactors and readers of one space at the same time, and kills them at random.

A program: ``python -m tests.store.rig.crowd FOLDER SECONDS SEED``.
"""

import os
import signal
import sys
import time
import traceback
from pathlib import Path
from random import Random

import numpy as np

from penult.store import Space
from tests.store.rig.samples import add, keys_of, rows_of
from tests.store.rig.workload import space_at

WRITERS, BATCHES = 2, 4000
BATCH_OF = {key.tobytes(): batch for batch in range(WRITERS * BATCHES) for key in keys_of(batch)}
CRASHED = 9


def acknowledged(folder: Path) -> set[int]:
    """Returns the batches that writers have reported as added."""
    lines = (path.read_text().split("\n")[:-1] for path in folder.glob("writer-*"))
    return {int(line) for listed in lines for line in listed}


def write(folder: Path, writer: int) -> None:
    """Adds batches forever and reports each."""
    path = folder / f"writer-{writer}"
    done = len(path.read_text().split("\n")) - 1 if path.exists() else 0
    space = space_at(folder / "store")
    with path.open("a", buffering=1) as said:
        for number in range(done, BATCHES):
            batch = WRITERS * number + writer
            add(space, batch)
            said.write(f"{batch}\n")


def compact(folder: Path, _: int) -> None:
    """Compacts and collects forever."""
    space = space_at(folder / "store")
    while True:
        space.compact()
        space.collect(grace_seconds=0.3)


def read(folder: Path, _: int) -> None:
    """Reads forever, and fails if a read lacks a reported batch or contains a wrong or incomplete one."""
    space = space_at(folder / "store")
    while True:
        judge(space, acknowledged(folder))


def judge(space: Space, expected: set[int]) -> int:
    """Checks that a space contains the expected batches and only complete, correct ones; returns their number."""
    rows = space.load()
    keys = [key.tobytes() for key in rows.keys]
    found = {BATCH_OF[key] for key in keys}
    assert expected <= found, f"lacks {sorted(expected - found)}"
    assert len(keys) == len(set(keys)) == len(keys_of(0)) * len(found), "a batch is there in part"
    assert np.array_equal(rows.features, rows_of(rows.keys)), "a row is wrong"
    return len(found)


ROLES = ((write, 0), (write, 1), (compact, 0), (compact, 1), (read, 0))


def start(folder: Path, role: int) -> int:
    """Forks a process for a role."""
    child = os.fork()
    if child:
        return child
    act, number = ROLES[role]
    try:
        act(folder, number)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the child must never continue as a second parent
        traceback.print_exc()
        os._exit(CRASHED)


def crowd(folder: Path, seconds: float, seed: int) -> tuple[int, int]:
    """Runs and kills the processes; returns the number of kills and of batches at the end."""
    chance, kills = Random(seed), 0
    space_at(folder / "store")
    children = {role: start(folder, role) for role in range(len(ROLES))}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(chance.uniform(0, 0.1))
        role = chance.randrange(len(ROLES))
        os.kill(children[role], signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(children[role], 0)[1])
        if status == CRASHED:
            raise AssertionError(f"{ROLES[role][0].__name__} crashed")
        children[role] = start(folder, role)
        kills += 1
    for child in children.values():
        os.kill(child, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == CRASHED:
            raise AssertionError("a process crashed")
    space = space_at(folder / "store")
    if not space.verify().is_sound:
        raise AssertionError("verify finds damage")
    return kills, judge(space, acknowledged(folder))


if __name__ == "__main__":
    print(*crowd(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
