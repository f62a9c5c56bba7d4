"""Measures `penult.train` on more rows than fit into memory, with a limit of 8 GB.

    python -m benchmarks.heads_memory                       a million rows: ten minutes, 6 GB of disk
    python -m benchmarks.heads_memory --rows 20000          a small trial

Each head is trained in a separate process. Training sees the limit as the machine's memory, and cannot allocate more.
The file that the rows are read from does not count: the system decides whether to keep it in memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

HEADS = ("logistic", "ridge", "lda")
CLASSES, WIDTH, TEST_ROWS, PART = 10, 1280, 10_000, 16_000


def build(folder: Path, rows: int) -> None:
    """Fills a store with variations of a few thousand random rows, because drawing a million takes long."""
    from penult.store import SpaceSpec, key_of, open_store
    from penult.store.tables.table import Table

    rng = np.random.default_rng(0)
    count = rows + TEST_ROWS
    y = rng.integers(0, CLASSES, count)
    keys = np.frombuffer(b"".join(key_of(str(i).encode()) for i in range(count)), np.uint8).reshape(-1, 16)
    drawn = rng.normal(size=(PART, WIDTH)).astype(np.float32) * np.arange(1, WIDTH + 1, dtype=np.float32) ** -0.3
    means = rng.normal(size=(CLASSES, WIDTH)).astype(np.float32) * 0.02
    store = open_store(folder)
    space = store.space(SpaceSpec("synthetic", "c" * 64, "penultimate", WIDTH))
    for start in range(0, count, PART):
        own = y[start : start + PART]
        mixed = drawn[rng.permutation(PART)[: len(own)]] - 0.5 * np.roll(drawn, rng.integers(PART), axis=0)[: len(own)]
        space.add(keys[start : start + PART], mixed + means[own])
    space.checkpoint()
    names = np.array([f"class {c}" for c in range(CLASSES)])
    split = np.array(["train"] * rows + ["test"] * TEST_ROWS)
    store.catalog.datasets.save(
        "rows", Table(keys, tuple(f"{i}.png" for i in range(count)), {"label": names[y], "split": split})
    )


def train_within(folder: Path, head: str, limit_bytes: int) -> dict[str, Any]:
    import penult
    from penult.pipeline.heads import training_matrix as matrices

    matrices.usable_memory_bytes = lambda: limit_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    peak, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.1):
            peak[0] = max(peak[0], status_kb("RssAnon:"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        trained = penult.train(folder, dataset="rows", head=head)
    finally:
        is_over.set()
        watcher.join()
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak_gb": peak[0] / 1e6,
        "accuracy": str(trained.evaluation.accuracy),
        "notes": list(trained.notes),
    }


def status_kb(name: str) -> int:
    return int(Path("/proc/self/status").read_text().partition(name)[2].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--heads", nargs="+", default=HEADS)
    parser.add_argument("--limit-gb", type=float, default=8)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    limit_bytes = int(options.limit_gb * 1e9)
    if options.run:
        print(json.dumps(train_within(Path(options.run[0]), options.run[1], limit_bytes)))
        return
    with tempfile.TemporaryDirectory() as room:
        build(Path(room) / "store", options.rows)
        print("| head | wall s | CPU s | own memory, GB | accuracy |")
        print("|---|---|---|---|---|")
        for head in options.heads:
            words = ["--run", str(Path(room) / "store"), head, "--limit-gb", str(options.limit_gb)]
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.heads_memory", *words],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[1],
            )
            told = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {head} | {told['wall']:.0f} | {told['cpu']:.0f} | {told['peak_gb']:.1f} | {told['accuracy']} |",
                flush=True,
            )
            print(*told["notes"], sep="\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
