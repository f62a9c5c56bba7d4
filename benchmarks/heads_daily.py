"""Measures the two daily tasks: correcting labels and adding images."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.heads_data import Kind, synthetic

TEST_ROWS = 5_000


def measure_daily(folder: Path, rows: int, kind: Kind, *, changed: float = 0.01, added: int = 1_000) -> list[dict]:
    """Trains on ``rows`` rows in a store, again after one per cent of the labels changed, and again with added rows.

    Each retraining is all of ``penult.train``: it loads the dataset, reads the rows, and fits, tests, saves and lists
    the head. The better of two later runs counts. The first run is listed separately: it also updates the statistics.
    """
    from penult.pipeline.training.options import TrainOptions
    from penult.pipeline.training.train import train
    from penult.store import SpaceSpec, key_of, open_store
    from penult.store.tables.table import Table

    X, y = synthetic(rows + added + TEST_ROWS, kind)
    names = np.array([f"class {c}" for c in range(kind.classes)])
    keys = np.frombuffer(b"".join(key_of(str(i).encode()) for i in range(len(y))), np.uint8).reshape(-1, 16)
    store = open_store(folder / "daily")
    space = store.space(SpaceSpec("synthetic", "c" * 64, "penultimate", kind.width))
    for start in range(0, len(y), 16_000):
        space.add(keys[start : start + 16_000], X[start : start + 16_000])
    space.checkpoint()
    del X
    paths = tuple(f"{i}.png" for i in range(len(y)))
    split = np.array(["train"] * rows + ["none"] * added + ["test"] * TEST_ROWS)
    rng = np.random.default_rng(1)
    other = y.copy()
    chosen = rng.choice(rows, int(changed * rows), replace=False)
    other[chosen] = rng.integers(0, kind.classes, len(chosen))
    more = split.copy()
    more[rows : rows + added] = "train"
    for name, labels, splits in (("first", y, split), ("relabelled", other, split), ("added", y, more)):
        store.catalog.datasets.save(name, Table(keys, paths, {"label": names[labels], "split": splits}))

    def once(dataset: str, label: str, **options: Any) -> dict[str, Any]:
        wall, cpu = time.perf_counter(), time.process_time()
        trained = train(store, dataset=dataset, name=label, options=TrainOptions(**options))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        head = trained.head.estimator
        accuracy = trained.evaluation.accuracy
        return {
            "wall": wall,
            "cpu": cpu,
            "passes": head.n_iter_,
            "objective": head.objective_,
            "accuracy": accuracy.value,
            "C": head.C_,
        }

    results = [{"name": f"train on {rows:,} rows, nothing kept", **once("first", "first")}]
    for dataset, name in (("relabelled", f"relabel {changed:.0%} and retrain"), ("added", f"add {added:,} rows")):
        runs = [once(dataset, dataset, start_from="first") for _ in range(3)]
        cold = once(dataset, "cold", params={"C": runs[0]["C"]})
        runs[0]["name"] = f"{name}, first time"
        best = min(runs[1:], key=lambda run: run["wall"]) | {"name": f"{name}, again"}
        for run in (runs[0], best):
            run["excess"] = run["objective"] / cold["objective"] - 1
            results.append(run)
    return results
