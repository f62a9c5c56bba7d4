"""Compares the store with other ways to keep features: reading all, reading some, adding, opening and finding.

    python -m benchmarks.store                        all tables, an hour at most, some 20 GB of disk
    python -m benchmarks.store --scale 0.05           a small trial
    python -m benchmarks.store --only load pick       some of the tables
    python -m benchmarks.store --write                all tables, also into benchmarks/store.md

Each contender runs in a separate process, in turn, for some rounds, and its best round counts. Files are read from the
page cache, because features that are read many times a day are there.
"""

import argparse
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from benchmarks.store_contenders import (
    CONTENDERS,
    SHARD_ROWS,
    SpaceSpec,
    cast_limit,
    features_for,
    keys_for,
    open_store,
    write_npy,
    write_penult,
)

TABLE = Path(__file__).with_suffix(".md")
WIDTH = 1280


def best(action: Callable[[], object], times: int = 3) -> float:
    """Returns the shortest time of an action."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        result = action()
        seconds.append(time.perf_counter() - start)
        del result
    return min(seconds)


def measure_load(name: str, path: Path, count: int) -> dict[str, float]:
    if name == "cast from memory":
        return {"seconds": best(cast_limit(path))}
    contender = CONTENDERS[name]
    return {"seconds": best(lambda: contender.load(path), 2)}


def measure_pick(name: str, path: Path, count: int) -> dict[str, float]:
    rows = np.random.default_rng(3).choice(count, min(10_000, count // 10), replace=False)
    if name.startswith("memmap"):
        matrix = np.load(path, mmap_mode="r")
        return {"seconds": best(lambda: matrix[rows] if "float16" in name else matrix[rows].astype(np.float32))}
    if name.startswith("penult"):
        space, keys = open_store(path).spaces()[0], keys_for(count)[rows]
        return {"seconds": best(lambda: space.gather(keys))}
    pick = CONTENDERS[name].pick
    assert pick
    return {"seconds": best(lambda: pick(path, rows))}


def measure_add(name: str, path: Path, count: int) -> dict[str, float]:
    rows, keys = features_for(0, count, WIDTH), keys_for(count)
    wide, data = rows.astype(np.float32), rows.tobytes()
    path.mkdir(parents=True)
    if name.startswith("penult"):
        space = open_store(path / "store").space(SpaceSpec("bench", "ab" * 32, "penultimate", WIDTH))
        given = wide if "float32" in name else rows
        return {"seconds": best(lambda: space.add(keys, given), 7)}
    if name == "h5py, flushed, no fsync":
        return {"seconds": best(lambda: _append_h5py(path / "one.h5", rows), 7)}
    return {"seconds": best(lambda: _write_plainly(path, data), 7)}


def _write_plainly(folder: Path, data: bytes) -> None:
    descriptor = os.open(folder / f"{time.monotonic_ns()}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)
    os.close(descriptor)


def _append_h5py(path: Path, rows: np.ndarray) -> None:
    with h5py.File(path, "a") as file:
        matrix = file.get("features") or file.create_dataset(
            "features", (0, rows.shape[1]), "<f2", maxshape=(None, rows.shape[1]), chunks=(1024, rows.shape[1])
        )
        matrix.resize(len(matrix) + len(rows), axis=0)
        matrix[-len(rows) :] = rows
        file.flush()


def measure_open(name: str, path: Path, count: int) -> dict[str, float]:
    del name

    def opened() -> object:
        return open_store(path).spaces()[0].missing([bytes(16)])

    return {"seconds": best(opened, 5), "shards": open_store(path).spaces()[0].stats().shards}


def measure_find(name: str, path: Path, count: int) -> dict[str, float]:
    keys = keys_for(count)
    asked = keys[np.random.default_rng(4).choice(count, 100_000, replace=False)]
    asked[::2] ^= 1
    if name == "penult":
        start = time.perf_counter()
        space = open_store(path).spaces()[0]
        assert bytes(16) not in space
        opening = time.perf_counter() - start
        assert len(space.missing(asked)) == len(asked) // 2
        return {"opening": opening, "seconds": best(lambda: space.missing(asked))}
    start = time.perf_counter()
    table: Any
    table = {key.tobytes(): row for row, key in enumerate(keys)} if name == "dict" else sqlite3.connect(path)
    opening = time.perf_counter() - start
    listed = [key.tobytes() for key in asked]
    if name == "dict":
        return {"opening": opening, "seconds": best(lambda: [table.get(key) for key in listed])}
    find = "SELECT row FROM keys WHERE key = ?"
    return {"opening": opening, "seconds": best(lambda: [table.execute(find, (key,)).fetchone() for key in listed])}


def write_sqlite(path: Path, count: int, width: int) -> None:
    del width
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE keys (key BLOB PRIMARY KEY, row INTEGER) WITHOUT ROWID")
        keys = sorted(key.tobytes() for key in keys_for(count))
        connection.executemany("INSERT INTO keys VALUES (?, ?)", zip(keys, range(count), strict=True))


def write_tiny_shards(path: Path, count: int, width: int) -> None:
    space = open_store(path).space(SpaceSpec("bench", "ab" * 32, "penultimate", width))
    keys, rows = keys_for(count), features_for(0, 8, width)
    for first in range(0, count, 8):
        space.add(keys[first : first + 8], rows[: len(keys[first : first + 8])])
    space.checkpoint()


MEASURES = {"load": measure_load, "pick": measure_pick, "add": measure_add, "open": measure_open, "find": measure_find}
Writer = Callable[[Path, int, int], None]


def plan(scale: float) -> list[tuple[str, str, int, int, dict[str, Writer | None]]]:
    """Lists the tables: name, title, rows, width, and each contender with the function that writes its files."""
    known = {name: contender for name, contender in CONTENDERS.items() if contender.version != "absent"}
    loads: dict[str, Writer | None] = {"cast from memory": write_npy, **{n: c.write for n, c in known.items()}}
    memmaps: dict[str, Writer | None] = {"memmap": write_npy, "memmap, left as float16": write_npy}
    picks = {**memmaps, **{n: c.write for n, c in known.items() if c.pick}}
    adds: dict[str, Writer | None] = dict.fromkeys(
        ("write + fsync", "penult, float16 rows", "penult, float32 rows", "h5py, flushed, no fsync")
    )
    finds: dict[str, Writer | None] = {"penult": write_penult, "dict": None, "sqlite": write_sqlite}
    some = int(200_000 * scale)
    return [
        ("load", f"All of {some:,} x {WIDTH} float16 as float32", some, WIDTH, loads),
        ("pick", f"10,000 random rows of {5 * some:,} as float32", 5 * some, WIDTH, picks),
        ("add", f"One batch of {SHARD_ROWS:,} x {WIDTH}, durable", SHARD_ROWS, WIDTH, adds),
        (
            "open",
            f"Opening a space of {int(10_000 * scale):,} shards and looking up a key",
            int(80_000 * scale),
            4,
            {"penult": write_tiny_shards},
        ),
        ("find", f"100,000 keys, half of them absent, among {50 * some:,}", 50 * some, 1, finds),
    ]


def peak_megabytes() -> float:
    """Returns the peak memory of this process; getrusage would include its parent's."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def in_a_process(kind: str, name: str, path: Path, count: int) -> dict[str, float]:
    """Measures a contender in a separate process."""
    command = [sys.executable, "-m", "benchmarks.store", "--measure", kind, name, str(path), str(count)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{name} cannot be measured:\n{result.stderr}")
    found: dict[str, float] = json.loads(result.stdout)
    return found


def table(kind: str, title: str, names: list[str], found: dict[str, dict[str, float]]) -> str:
    """Returns one table; the times are divided by those of the first contender."""
    first = found[names[0]]["seconds"]
    lines = [
        f"## {title}",
        "",
        "| | milliseconds | relative to the first | opening, ms | peak memory, MB |",
        "|---|--:|--:|--:|--:|",
    ]
    for name in names:
        row = found[name]
        opening = f"{row['opening'] * 1e3:,.1f}" if "opening" in row else ""
        library = CONTENDERS[name].library if name in CONTENDERS else ""
        shown = f"{name} ({library} {version(library)})" if library else name
        seconds = row["seconds"]
        lines.append(f"| {shown} | {seconds * 1e3:,.1f} | {seconds / first:.2f} | {opening} | {row['peak']:,.0f} |")
    return "\n".join(lines) + "\n"


def machine(folder: Path) -> str:
    """Describes the machine."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "h5py", "xxhash"))
    absent = [name for name, contender in CONTENDERS.items() if contender.version == "absent"]
    left_out = f" Left out, because not installed: {', '.join(absent)}." if absent else ""
    load = os.getloadavg()[0]
    return (
        f"{cpu}, {os.cpu_count()} processors, {memory:.0f} GB, Linux {platform.release()}, {_file_system(folder)}; "
        f"Python {platform.python_version()}, {libraries}, HDF5 {h5py.version.hdf5_version}. "
        f"{time.strftime('%Y-%m-%d')}, load average {load:.1f} at the end.{left_out}"
    )


def _file_system(folder: Path) -> str:
    result = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown file system"


def run(only: list[str], scale: float, rounds: int, folder: Path) -> str:
    """Measures everything and returns the tables."""
    parts = []
    for kind, title, count, width, contenders in plan(scale):
        if kind not in only:
            continue
        files: dict[object, Path] = {}
        for number, (name, write) in enumerate(contenders.items()):
            if write not in files or write is None:
                files[write or name] = folder / f"{kind}-{number}{'.npy' if write is write_npy else ''}"
                if write:
                    print(f"{title}: writing {name} …", file=sys.stderr)
                    write(files[write], count, width)
        found: dict[str, dict[str, float]] = {}
        for turn in range(rounds):
            for name, write in contenders.items():
                print(f"{title}: {name}, round {turn + 1} …", file=sys.stderr)
                path = files[write or name]
                row = in_a_process(kind, name, path if write else path / str(turn), count)
                if name not in found or row["seconds"] < found[name]["seconds"]:
                    found[name] = row
        parts.append(table(kind, title, list(contenders), found))
        for path in files.values():
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return f"# The store compared with other formats\n\n{machine(folder)}\n\n" + "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument(
        "--scale", type=float, default=1.0, help="scale of the number of rows; 1 is the size of the committed table"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files go; by default a temporary folder")
    parser.add_argument("--write", action="store_true", help=f"write the result to {TABLE.name} next to this program")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        kind, name, path, count = options.measure
        row = MEASURES[kind](name, Path(path), int(count))
        print(json.dumps({**row, "peak": peak_megabytes()}))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        text = run(options.only, options.scale, options.rounds, Path(folder))
    print(text)
    if options.write:
        TABLE.write_text(text)


if __name__ == "__main__":
    main()
