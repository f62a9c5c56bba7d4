"""Stops a process at one operation after the other while another process works.

If that one waited for the stopped one, as it would for the holder of a lock, this would not end. A program of its own:
``python -m tests.store.rig.stalls FOLDER FIRST STRIDE``.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

from tests.store.rig.campaign import UNTOUCHED, live
from tests.store.rig.samples import batches_at
from tests.store.rig.shim import Levers
from tests.store.rig.workload import ALL_BATCHES, steps


def stall_everywhere(folder: Path, first: int, stride: int) -> int:
    """Stops a process at every ``stride``-th operation; returns the number of stops."""
    levers, at, tries = Levers(), first, 0
    while True:
        path = folder / "store"
        levers.arm(path, "nothing")
        child = os.fork()
        if child == 0:
            levers.arm(path, "stop", at)
            live(path, os.open(os.devnull, os.O_WRONLY))
            os._exit(UNTOUCHED)
        status = os.waitpid(child, os.WUNTRACED)[1]
        if not os.WIFSTOPPED(status):
            shutil.rmtree(path)
            return tries
        for name, step in steps(path):
            if name != "collect":  # without a grace time it removes the stopped writer's file, which then raises
                step()
        if batches_at(path) != ALL_BATCHES:
            raise AssertionError(f"rows are missing while a process is stopped at {at}")
        os.kill(child, signal.SIGCONT)
        if os.waitpid(child, 0)[1] != 0 or batches_at(path) != ALL_BATCHES:
            raise AssertionError(f"the process stopped at {at} does not finish correctly")
        shutil.rmtree(path)
        at, tries = at + stride, tries + 1


if __name__ == "__main__":
    print(stall_everywhere(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
