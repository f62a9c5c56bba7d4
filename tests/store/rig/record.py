"""Runs a workload once under the shim and records every operation.

A program of its own: ``python -m tests.store.rig.record LOG FOLDER NAME``.
"""

import sys
from pathlib import Path

from tests.store.rig import workload
from tests.store.rig.shim import Levers

if __name__ == "__main__":
    folder = Path(sys.argv[2])
    levers = Levers()
    levers.log(Path(sys.argv[1]))
    levers.arm(folder, "nothing")
    for name, step in getattr(workload, sys.argv[3])(folder / "store"):
        step()
        levers.mark(name)
