"""Builds a store of many narrow rows, opens, searches and compacts it, searches it again, and measures a catalog.

    python -m benchmarks.scale                      100 million rows: 14 GB of disk, 6 of memory, 15 minutes
    python -m benchmarks.scale --rows 2000000       a small trial
    python -m benchmarks.scale --write              writes the table into benchmarks/scale.md

Each step prints its progress and the time left. `--rows` and `--files` shorten everything in proportion.

Keys, shards, manifests and the index limit the number of rows of a store. None of them depends on the width of a row,
so narrow rows are enough. Each step runs in a separate process, and the table shows its time and peak memory.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 8
SHARD_ROWS = 16_384
FEW_KEYS, MANY_KEYS = 8_192, 262_144  # keys that a job looks up at once, first and later
CHECKPOINT_SHARDS = 64
TELL_SECONDS = 10.0
DISK_BYTES = 140  # per row at most: twice the row while shards are merged, and its entries in two indexes
HERE = Path(__file__).parent


def keys_of(shard: int, rows: int = SHARD_ROWS) -> np.ndarray:
    """Returns the keys of a shard, spread as evenly as those of real files."""
    return np.random.default_rng(shard).integers(0, 256, (rows, 16), dtype=np.uint8)


def space_of(room: Path) -> Any:
    from penult.store import SpaceSpec, open_store

    return open_store(room / "store").space(SpaceSpec("narrow", "ab" * 32, "penultimate", WIDTH))


class Course:
    """Prints the progress, the speed and the time left of a step at intervals."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total = name, total
        self._began = self._told = time.monotonic()

    def at(self, done: int) -> None:
        now = time.monotonic()
        if now - self._told < TELL_SECONDS or not done:
            return
        self._told, rate = now, done / (now - self._began)
        left = max(self._total - done, 0) / rate
        print(f"  {self._name}: {done / self._total:.0%}, {rate:,.0f}/s, {left / 60:.1f} min left", file=sys.stderr)


def build(room: Path, rows: int) -> dict[str, Any]:
    space, course = space_of(room), Course("build, rows", rows)
    features = np.ones((SHARD_ROWS, WIDTH), np.float16)
    checkpoints = 0.0
    shards = -(-rows // SHARD_ROWS)
    for shard in range(shards):
        space.add(keys_of(shard), features, checkpoint=False)
        if shard % CHECKPOINT_SHARDS == CHECKPOINT_SHARDS - 1 or shard == shards - 1:
            began = time.perf_counter()
            space.checkpoint()
            checkpoints += time.perf_counter() - began
        course.at((shard + 1) * SHARD_ROWS)
    return {"shards": shards, "checkpoints_s": round(checkpoints, 1)}


def probe(room: Path, rows: int) -> dict[str, Any]:
    """Opens the store, looks up few keys and then many, as a job does, and reads some rows."""
    chance = np.random.default_rng([7, 7])  # a seed that no shard uses
    shards = -(-rows // SHARD_ROWS)
    known = np.concatenate([keys_of(int(shard))[:256] for shard in chance.integers(0, shards, FEW_KEYS // 256)])
    unknown = chance.integers(0, 256, (FEW_KEYS, 16), dtype=np.uint8)
    space = space_of(room)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        assert not len(space.missing(known))
        assert len(space.missing(unknown)) == FEW_KEYS
        seconds.append(time.perf_counter() - began)
    many = chance.integers(0, 256, (MANY_KEYS, 16), dtype=np.uint8)
    began = time.perf_counter()
    assert len(space.missing(many)) == len(many)
    many_seconds = time.perf_counter() - began
    began = time.perf_counter()
    assert (space.gather(known) == 1).all()
    gather = time.perf_counter() - began
    return {
        "open_and_first_look_up_s": round(seconds[0], 3),
        "look_up_s": round(min(seconds[1:]), 4),
        "keys_looked_up_per_s": round(len(many) / many_seconds),
        "gather_s": round(gather, 3),
        "rows": len(space),
        "shards": space.stats().shards,
    }


def compact(room: Path, rows: int) -> dict[str, Any]:
    space = space_of(room)
    whole = size_of(space.path / "shards")
    is_over = threading.Event()

    def watch() -> None:
        course = Course("compact, bytes", whole)
        while not is_over.wait(1.0):
            with suppress(OSError):  # files come and go
                merged = sum(path.stat().st_size for path in (space.path / "shards").glob("*-merged.h5"))
                course.at(merged + size_of(space.path / "tmp"))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        done = space.compact()
    finally:
        is_over.set()
        watching.join()
    began = time.perf_counter()
    space.collect(grace_seconds=0)
    return {"shards": done.shards_after, "collect_s": round(time.perf_counter() - began, 1)}


def catalog(room: Path, rows: int) -> dict[str, Any]:
    """Records files as a driver does, commit by commit in listing order, and looks them up again."""
    from penult.store import open_store
    from penult.store.catalog.files import SeenFile

    files, course = open_store(room / "catalog").catalog.files, Course("catalog, files", rows)
    began = time.perf_counter()
    for start in range(0, rows, SHARD_ROWS):
        count = min(SHARD_ROWS, rows - start)
        keys = keys_of(start // SHARD_ROWS, count)
        files.record(
            SeenFile(f"/shared/photos/{(start + i) // 1000:07d}/{start + i:012d}.jpg", 100_000, 10**18, key.tobytes())
            for i, key in enumerate(keys)
        )
        course.at(start + count)
    recorded = time.perf_counter() - began
    start = rows // 2
    asked = [
        SeenFile(f"/shared/photos/{n // 1000:07d}/{n:012d}.jpg", 100_000, 10**18, b"")
        for n in range(start, min(start + FEW_KEYS, rows))
    ]
    began = time.perf_counter()
    assert None not in files.known(asked)
    looked = time.perf_counter() - began
    size = (room / "catalog" / "catalog.sqlite").stat().st_size
    return {
        "files_recorded_per_s": round(rows / recorded),
        "files_looked_up_per_s": round(len(asked) / looked),
        "bytes_per_file": round(size / rows),
    }


def listing(room: Path, rows: int) -> dict[str, Any]:
    """Keeps a list of ``rows`` files in memory, as a driver does."""
    from penult.pipeline.images.image_file import ImageFile

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = [ImageFile(f"/shared/photos/{n // 1000:07d}/{n:012d}.jpg", 10**5 + n, 10**18 + n) for n in range(rows)]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"bytes_per_listed_file": round((after - before) * 1024 / len(files))}


def _child(step: Callable[[Path, int], dict[str, Any]], room: Path, rows: int, answers: Any) -> None:
    began = time.perf_counter()
    found = step(room, rows)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answers.send({"seconds": round(seconds, 2), "peak_mb": round(peak), **found})


def alone(step: Callable[[Path, int], dict[str, Any]], room: Path, rows: int) -> dict[str, Any]:
    """Runs a step in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(step, room, rows, theirs))
    process.start()
    theirs.close()
    try:
        return dict(ours.recv())
    finally:
        process.join()


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--files", type=int, default=5_000_000, help="files in the catalog")
    parser.add_argument("--room", type=Path, help="where to build; by default a temporary folder")
    parser.add_argument("--write", action="store_true", help="write benchmarks/scale.md and scale.json")
    asked = parser.parse_args()
    room = Path(tempfile.mkdtemp(dir=asked.room))
    needed, free = DISK_BYTES * (asked.rows + asked.files), shutil.disk_usage(room).free
    if free < needed:
        room.rmdir()
        parser.error(
            f"this needs {needed / 1e9:.0f} GB of disk, and {free / 1e9:.0f} GB are free: use fewer --rows, or --room"
        )
    began = time.monotonic()
    found: dict[str, Any] = {}
    try:
        for name, step, rows in (
            ("build", build, asked.rows),
            ("probe", probe, asked.rows),
            ("compact", compact, asked.rows),
            ("probe, compacted", probe, asked.rows),
            ("catalog", catalog, asked.files),
            ("listing", listing, asked.files),
        ):
            found[name] = {"count": rows, **alone(step, room, rows)}
            if name in ("build", "compact"):
                found[name]["bytes_per_row"] = round(size_of(room / "store") / rows, 1)
            print(f"{(time.monotonic() - began) / 60:.1f} min", name, json.dumps(found[name]), flush=True)
    finally:
        shutil.rmtree(room)
    if asked.write:
        (HERE / "scale.json").write_text(json.dumps(found, indent=1) + "\n")
        (HERE / "scale.md").write_text(_page(found))


def _page(found: dict[str, Any]) -> str:
    rows = [
        f"| {name} | {step['count']:,} | {step['seconds']:,} | {step['peak_mb']:,} | "
        + ", ".join(f"{key} {value:,}" for key, value in step.items() if key not in ("count", "seconds", "peak_mb"))
        + " |"
        for name, step in found.items()
    ]
    head = ["| step | rows or files | seconds | peak MB | found |", "|---|---|---|---|---|"]
    return (
        "# A store of many narrow rows\n\n`python -m benchmarks.scale --write` wrote this page. The top of "
        f"`benchmarks/scale.py` explains what it does.\n\nPython {platform.python_version()}, {platform.machine()}, "
        f"rows of {WIDTH} float16.\n\n" + "\n".join([*head, *rows]) + "\n"
    )


if __name__ == "__main__":
    main()
