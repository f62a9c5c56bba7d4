"""Compares heads with common alternatives: time, accuracy, log-loss and memory from one run.

    python -m benchmarks.heads --images FOLDER --images FOLDER --write        all tables, 25 minutes on an idle machine
    python -m benchmarks.heads --rows 2000 --daily 3000                       a small trial
    python -m benchmarks.heads --features FILE.npz --rows                     only the rows of the file

Each protocol runs in a separate process on one core, so that CPU seconds and peak memory are its own. The slowest peers
run only on the smaller sets; nothing is extrapolated.
"""

import argparse
import inspect
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.heads_daily import measure_daily
from benchmarks.heads_data import Kind, Rows, file_rows, image_rows, synthetic_rows
from benchmarks.heads_protocols import OURS, PEERS, fit_of, keep_statistics

TABLE = Path(__file__).with_suffix(".md")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ROWS = (10_000, 45_000, 200_000)
DAILY = 50_000
MANY_BYTES = 1 << 27

# With more rows, these protocols take too long. FEWEST_ROWS has the one that replaces them there.
MOST_ROWS = {
    "penult lightgbm": 20_000,
    "LogisticRegressionCV, 5 folds, 7 C": 20_000,
    "LightGBM, default": 20_000,
    "StandardScaler + LogisticRegression, 7 C": 60_000,
    "CLIP sweep": 60_000,
}
FEWEST_ROWS = {"StandardScaler + LogisticRegression, 1 C": 60_001}


def run_one(name: str, folder: Path) -> dict[str, Any]:
    import warnings

    import lightgbm  # noqa: F401 - so that the time includes no import
    import sklearn.linear_model
    import sklearn.model_selection  # noqa: F401 - so that the time includes no import

    import penult.pipeline.heads.recipes  # noqa: F401 - so that no import falls into the time
    from penult.pipeline.evaluation.evaluation import evaluate

    warnings.simplefilter("ignore")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    fit = fit_of(name, folder)
    before = peak_kb()
    X, y, X_test, y_test = (np.load(folder / f"{part}.npy") for part in ("X", "y", "X_test", "y_test"))
    wall, cpu = time.perf_counter(), time.process_time()
    predict = fit(X, y)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = peak_kb()
    keys = np.arange(len(y_test), dtype=np.uint64).repeat(2).view(np.uint8).reshape(-1, 16)
    found = evaluate(keys, y_test, predict(X_test), [str(i) for i in range(int(y.max()) + 1)])
    return {
        "name": name,
        "wall": wall,
        "cpu": cpu,
        # With few rows, the libraries' own memory would dominate.
        "copies": ((peak - before) * 1024 - X_test.nbytes) / X.nbytes if X.nbytes > MANY_BYTES else None,
        "accuracy": found.accuracy.value,
        "low": found.accuracy.low,
        "high": found.accuracy.high,
        "log_loss": found.log_loss,
    }


def peak_kb() -> int:
    """Returns the peak memory of this process; ``getrusage`` would include its parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(status.read_text().partition("VmHWM:")[2].split()[0])


def run_all(rows: Rows, only: str) -> list[dict[str, Any]]:
    n = len(rows.y)
    names = [name for name in (*OURS, *PEERS) if FEWEST_ROWS.get(name, 0) <= n <= MOST_ROWS.get(name, n)]
    results = []
    with tempfile.TemporaryDirectory() as room:
        rows.save(Path(room))
        started(["--statistics", room])
        for name in names:
            if name == next(iter(OURS)) or only in name:
                print(f"… {rows.name}, {n:,} rows: {name}", file=sys.stderr, flush=True)
                results.append(json.loads(started(["--run", name, room]).splitlines()[-1]))
    return results


def started(words: list[str]) -> str:
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.heads", *words],
        env=os.environ | ONE_THREAD,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    return told.stdout


def comparison(rows: Rows, results: list[dict[str, Any]]) -> str:
    base = results[0]
    lines = [
        f"**{rows.name}**: {len(rows.y):,} rows of {rows.X.shape[1]:,} features, {rows.classes} classes, "
        f"{len(rows.y_test):,} test rows",
        "",
        "| protocol | CPU s | relative to the first | wall s | copies in memory | accuracy | log-loss | as good |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        is_equal = base["low"] <= r["accuracy"] <= base["high"]
        verdict = "yes" if is_equal else "better" if r["accuracy"] > base["high"] else "worse"
        copies = "" if r["copies"] is None else f"{r['copies']:.1f}"
        lines.append(
            f"| {r['name']} | {r['cpu']:.2f} | {r['cpu'] / base['cpu']:.1f} | {r['wall']:.2f} | {copies} "
            f"| {r['accuracy']:.4f} [{r['low']:.4f}, {r['high']:.4f}] | {r['log_loss']:.4f} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def daily(rows: int, kind: Kind) -> str:
    print(f"… relabelling and adding, {rows:,} rows", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as room:
        results = measure_daily(Path(room), rows, kind)
    lines = [
        f"**Daily work**: all of `penult.train` on the store, {kind.apart} apart, all cores",
        "",
        "| what | wall s | CPU s | passes over the rows | objective, relative excess over a cold start | accuracy |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['name']} | {r['wall']:.2f} | {r['cpu']:.2f} | {r['passes']} | {r.get('excess', 0):.1e} "
        f"| {r['accuracy']:.4f} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


def machine() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("penult", "scikit-learn", "numpy", "lightgbm"))
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {libraries}. Each protocol "
        "runs on one core. \u201cAs good\u201d means that the accuracy is within the first line's 95 % interval.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=ROWS, help="sizes of the synthetic set")
    parser.add_argument("--apart", type=float, default=Kind.apart, help="the distance of its classes")
    parser.add_argument("--classes", type=int, default=Kind.classes)
    parser.add_argument("--width", type=int, default=Kind.width)
    parser.add_argument(
        "--daily", type=int, default=DAILY, help="rows in the store to relabel and to add to; 0 skips this table"
    )
    parser.add_argument("--images", type=Path, action="append", default=[], help="a folder with a folder per class")
    parser.add_argument("--features", type=Path, action="append", default=[], help="an .npz with X and y")
    parser.add_argument(
        "--only", default="", help="run only the first protocol, and those whose names contain this word"
    )
    parser.add_argument("--write", action="store_true", help=f"also write the tables into {TABLE.name}")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--statistics", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run_one(options.run[0], Path(options.run[1]))))
        return
    if options.statistics:
        keep_statistics(options.statistics)
        return
    kind = Kind(options.width, options.classes, options.apart)
    sets = [
        *((image_rows, folder) for folder in options.images),
        *((file_rows, file) for file in options.features),
        *((lambda count: synthetic_rows(count, kind), count) for count in options.rows),
    ]
    parts = [machine()]
    if options.daily:
        parts.append(daily(options.daily, kind))
    for make, source in sets:
        rows = make(source)
        parts.append(comparison(rows, run_all(rows, options.only)))
        print(parts[-1], flush=True)
    text = "\n".join(parts)
    print(text)
    if options.write:
        TABLE.write_text(f"# Heads compared with common alternatives\n\n{inspect.getdoc(Kind)}\n\n{text}")


if __name__ == "__main__":
    main()
