"""The number of cores that this process may use, which can be lower than the machine's."""

import math
import os
from pathlib import Path

__all__ = ["allowed_cores", "usable_cores", "worker_count"]

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Returns the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def allowed_cores() -> float:
    """Returns the CPU time that this process may use, in cores; a container's quota can be lower than its cores."""
    try:
        quota, period = QUOTA.read_text().split()
        return min(usable_cores(), int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # the file is missing, or says "max" for no limit
        return float(usable_cores())


def worker_count() -> int:
    """Returns the number of workers that keep all cores busy.

    With more workers than the quota, the system would pause all of them for a part of each period.
    """
    return max(1, math.ceil(allowed_cores()))
