"""Runs the workload again and again under the shim, and injects a fault into one operation after the other.

A program: ``python -m tests.store.rig.campaign FAULT ERRNO FOLDER FIRST STRIDE``. It forks its
children, so a run takes milliseconds. It prints the number of operations and the number of runs.
"""

import os
import shutil
import sys
import traceback
from pathlib import Path

from penult.errors import StoreError
from tests.store.rig.samples import batches_at
from tests.store.rig.shim import Levers
from tests.store.rig.workload import ALL_BATCHES, steps

UNTOUCHED, TOUCHED, BROKEN = 0, 7, 9


def live(path: Path, acknowledge: int) -> None:
    """Runs the workload, reports each finished step, and continues after each expected failure."""
    for name, step in steps(path):
        try:
            step()
        except StoreError:
            continue
        else:
            os.write(acknowledge, f"{name}\n".encode())


def one_run(levers: Levers, path: Path, fault: str, error: int, at: int) -> tuple[bool, list[str]]:
    """Runs the workload with one fault; returns whether the fault occurred, and the finished steps."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            levers.arm(path, fault, at, error)
            live(path, writing)
            os._exit(TOUCHED if levers.count() >= at else UNTOUCHED)
        except BaseException:  # noqa: BLE001 - the child must never continue as a second parent
            traceback.print_exc()
            os._exit(BROKEN)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        done = pipe.read().splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == BROKEN:
        raise AssertionError("the workload failed in a way that no caller expects")
    return status != UNTOUCHED, done


def campaign(fault: str, error: int, folder: Path, first: int, stride: int) -> tuple[int, int]:
    """Injects the fault into every ``stride``-th operation; returns the number of operations and of runs."""
    levers, at, tries = Levers(), first, 0
    while True:
        path = folder / "store"
        levers.arm(path, "nothing")
        is_met, done = one_run(levers, path, fault, error, at)
        acknowledged = {int(name.split()[1]) for name in done if name.startswith("add ")}
        found = batches_at(path)
        if not acknowledged <= found <= ALL_BATCHES:
            raise AssertionError(f"{fault} at {at}: acknowledged {acknowledged}, found {found}")
        for _, step in steps(path):
            step()
        if batches_at(path) != ALL_BATCHES:
            raise AssertionError(f"{fault} at {at}: running everything again does not repair it")
        shutil.rmtree(path)
        if not is_met:
            return at - 1, tries
        at, tries = at + stride, tries + 1


if __name__ == "__main__":
    print(*campaign(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])))
