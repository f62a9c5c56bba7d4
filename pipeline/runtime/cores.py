"""How many cores this process may use: what the system grants it, and not what the machine has."""

import math
from pathlib import Path

from penult.cores import usable_cores

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def allowed_cores() -> float:
    """Returns of how many cores this process may use the time; a container may be granted less than it sees."""
    try:
        quota, period = QUOTA.read_text().split()
        return min(usable_cores(), int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max" for no limit
        return float(usable_cores())


def worker_count() -> int:
    """Returns how many workers keep all cores busy.

    More than the quota's share would be stopped for a part of each period, all of them at once.
    """
    return max(1, math.ceil(allowed_cores()))
