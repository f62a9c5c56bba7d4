"""How many cores this process may use, which can be fewer than the machine has."""

import math
import os
from pathlib import Path

__all__ = ["allowed_cores", "usable_cores", "worker_count"]

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Returns how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def allowed_cores() -> float:
    """Returns how many cores' worth of time this process gets: a container may get less than it sees."""
    try:
        quota, period = QUOTA.read_text().split()
        return min(usable_cores(), int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max" for no limit
        return float(usable_cores())


def worker_count() -> int:
    """Returns how many workers keep all cores busy.

    With more workers than the quota allows, the system pauses all of them for a part of each period.
    """
    return max(1, math.ceil(allowed_cores()))
