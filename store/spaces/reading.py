"""Reading rows, in threads: what is returned has passed a checksum that is bound to its key."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from penult.store.keys import Keys
from penult.store.spaces.keytable import Positions
from penult.store.spaces.readtask import Destination, Features, Places, ReadTask
from penult.store.spaces.shardlist import ShardList

TASK_BYTES = 1 << 24
THREADS_LIMIT = 8


def processors() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Reader:
    """Fills ``out`` with the rows of ``keys``; the number of threads changes the time that it takes, and no bit."""

    def __init__(self, shards: ShardList, keys: Keys, out: Features, *, is_checking: bool = True) -> None:
        self._shards = shards
        self._to = Destination(keys, out, is_checking)

    def read(self, positions: Positions) -> None:
        """Reads the rows that lie at ``positions``, one for each key."""
        tasks = list(self._tasks(positions))
        workers = min(processors(), THREADS_LIMIT, len(tasks))
        if workers <= 1:
            for task in tasks:
                self._run(*task)
            return
        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(self._run, *task) for task in tasks]:
                done.result()

    def _tasks(self, positions: Positions) -> Iterator[tuple[str, Positions, Places]]:
        step = max(TASK_BYTES // self._shards.folder.spec.row_bytes, 1)
        for name, rows, places in self._shards.split(positions):
            for start in range(0, len(rows), step):
                yield name, rows[start : start + step], places[start : start + step]

    def _run(self, name: str, rows: Positions, places: Places) -> None:
        with self._shards.folder.open_shard(name) as shard:
            ReadTask(shard, self._shards.folder.spec, rows, places, self._to).run()
