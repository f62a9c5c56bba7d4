"""Heads against the ways in which people train them otherwise: time, accuracy and log-loss from one run.

    python benchmarks/heads.py --rows 10000                         a synthetic set of 1280 features and ten classes
    python benchmarks/heads.py --images FOLDER                      real features: one folder per class
    python benchmarks/heads.py --features FILE.npz                  arrays X (n, D) and y (n)
    python benchmarks/heads.py --rows 10000 --write benchmarks/heads.md

Each protocol runs in a process of its own, with one BLAS thread, so that CPU seconds and peak memory are its own.
The synthetic set: ten Gaussian-like classes (Student, 6 degrees of freedom) with means a fixed distance apart and one
covariance whose spectrum falls as rank ** -1.2, turned by a random rotation and clipped at 0, as float16.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

CLIP_SWEEP = 10.0 ** np.linspace(-6, 6, 13)
CAREFUL = 10.0 ** np.arange(-4, 3)
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def synthetic(rows: int, width: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, rows)
    spread = np.arange(1, width + 1) ** -0.6
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0].astype(np.float32)
    means = rng.normal(size=(classes, width)) * spread * 0.25
    X = np.empty((rows, width), np.float16)
    for start in range(0, rows, 4096):
        part = y[start : start + 4096]
        tails = np.sqrt(6 / rng.chisquare(6, (len(part), 1)))
        raw = means[part] + rng.normal(size=(len(part), width)) * spread * tails
        X[start : start + 4096] = np.maximum(raw.astype(np.float32) @ turn + 0.05, 0)
    return X, y


def from_images(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    import penult
    from penult.pipeline.training.feature_spaces import choose_spaces, gather
    from penult.pipeline.training.training_rows import choose_rows

    with tempfile.TemporaryDirectory() as room:
        store = penult.open_store(Path(room) / "store")
        fitted = penult.fit(folder, store, output=Path(room) / "out")
        rows = choose_rows(store.catalog.datasets.load(fitted.dataset.name))
        spaces = choose_spaces(store, "penultimate")
        names = np.array(rows.classes)
        parts = [(gather(spaces, part.keys), np.searchsorted(names, part.labels)) for part in (rows.train, rows.test)]
    return parts[0][0], parts[0][1], parts[1][0], parts[1][1]


Fit = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def penult_head(name: str, *, is_cached: bool) -> Fit:
    def prepare(X: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        from penult.pipeline.heads.recipe import HeadOptions
        from penult.pipeline.heads.registry import recipe_of

        recipe = recipe_of(name, HeadOptions(len(y), int(y.max()) + 1, X.shape[1]))
        known = {"basis": BASIS} if is_cached else {}
        estimator: Any = recipe.fit(X, y, **known).estimator
        return lambda Z: np.asarray(estimator.predict_proba(Z))

    return prepare


BASIS: Any = None
"""What the store would have kept; found before the clock starts."""


def swept(values: np.ndarray, *, scale: bool, iterations: int) -> Fit:
    """A fit per value of C on nine tenths, the best by accuracy on the tenth, and once more on all."""

    def fit(X: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import train_test_split
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        def model(c: float) -> Any:
            plain = LogisticRegression(C=c, max_iter=iterations)
            return make_pipeline(StandardScaler(), plain) if scale else plain

        X_in, X_out, y_in, y_out = train_test_split(X, y, test_size=0.1, stratify=y, random_state=0)
        best = max(values, key=lambda c: model(c).fit(X_in, y_in).score(X_out, y_out))
        return model(best).fit(X, y).predict_proba

    return fit


def clip(X: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The CLIP paper's protocol: seven values of C over six decades, then a binary search to eight steps a decade."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    X_in, X_out, y_in, y_out = train_test_split(X, y, test_size=0.1, stratify=y, random_state=0)
    scores: dict[float, float] = {}

    def score(power: float) -> float:
        if power not in scores:
            model = LogisticRegression(C=10**power, max_iter=1000).fit(X_in, y_in)
            scores[power] = model.score(X_out, y_out)
        return scores[power]

    best = max(np.arange(-6.0, 7.0, 2.0), key=score)
    step = 1.0
    while step >= 1 / 8:
        best = max((best - step, best, best + step), key=score)
        step /= 2
    return LogisticRegression(C=10**best, max_iter=1000).fit(X, y).predict_proba


def cross_validated(X: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegressionCV(
        Cs=CAREFUL, cv=5, max_iter=1000, scoring="neg_log_loss", use_legacy_attributes=False, l1_ratios=(0.0,)
    )
    return make_pipeline(StandardScaler(), model).fit(X, y).predict_proba


def boosted(X: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_jobs=1, verbose=-1, random_state=0).fit(X, y).predict_proba


PROTOCOLS: dict[str, Fit] = {
    "logistic, statistics kept": penult_head("logistic", is_cached=True),
    "logistic": penult_head("logistic", is_cached=False),
    "ridge": penult_head("ridge", is_cached=False),
    "lda": penult_head("lda", is_cached=False),
    "StandardScaler + LogisticRegression, 7 C": swept(CAREFUL, scale=True, iterations=1000),
    "LogisticRegressionCV, 5 folds, 7 C": cross_validated,
    "CLIP sweep": clip,
    "LightGBM, default": boosted,
}


def run_one(name: str, folder: Path) -> dict[str, Any]:
    import warnings

    import lightgbm  # noqa: F401 - so that no import falls into the time
    import sklearn.linear_model
    import sklearn.model_selection  # noqa: F401 - so that no import falls into the time

    import penult.pipeline.heads.recipes  # noqa: F401 - so that no import falls into the time
    from penult.pipeline.heads.basis import Basis
    from penult.pipeline.training.evaluation import evaluate

    warnings.simplefilter("ignore")
    global BASIS  # noqa: PLW0603 - the protocols take rows and labels alone
    X, y, X_test, y_test = (np.load(folder / f"{part}.npy") for part in ("X", "y", "X_test", "y_test"))
    if "kept" in name:
        BASIS = Basis.of(X)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    predict = PROTOCOLS[name](X, y)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    keys = np.arange(len(y_test), dtype=np.uint64).repeat(2).view(np.uint8).reshape(-1, 16)
    found = evaluate(keys, y_test, predict(X_test), [str(i) for i in range(int(y.max()) + 1)])
    return {
        "name": name,
        "wall": wall,
        "cpu": cpu,
        "extra_copies": (peak - before) * 1024 / X.nbytes,
        "accuracy": found.accuracy.value,
        "low": found.accuracy.low,
        "high": found.accuracy.high,
        "log_loss": found.log_loss,
    }


def table(results: list[dict[str, Any]]) -> str:
    base = results[0]["cpu"]
    lines = [
        "| protocol | CPU s | times the first | wall s | memory, in copies of the rows | accuracy | log-loss |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['name']} | {r['cpu']:.2f} | {r['cpu'] / base:.1f} | {r['wall']:.2f} | {r['extra_copies']:.1f} "
        f"| {r['accuracy']:.4f} [{r['low']:.4f}, {r['high']:.4f}] | {r['log_loss']:.4f} |"
        for r in results
    ]
    return "\n".join(lines)


def load(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    if options.images is not None:
        return from_images(options.images)
    if options.features is not None:
        with np.load(options.features) as file:
            X, y = file["X"], np.unique(file["y"], return_inverse=True)[1]
    else:
        X, y = synthetic(options.rows + 10_000, options.width, options.classes)
    order = np.random.default_rng(1).permutation(len(y))
    test = order[: min(10_000, len(y) // 4)]
    train = order[len(test) :][: options.rows or None]
    return X[train], y[train], X[test], y[test]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--only", help="protocols whose names hold this word, and the first")
    parser.add_argument("--write", type=Path, help="a file to put the table into")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run_one(options.run[0], Path(options.run[1]))))
        return
    names = [name for i, name in enumerate(PROTOCOLS) if not i or not options.only or options.only in name]
    results = []
    with tempfile.TemporaryDirectory() as room:
        X, y, X_test, y_test = load(options)
        for part, values in (
            ("X", X.astype(np.float32)),
            ("y", y),
            ("X_test", X_test.astype(np.float32)),
            ("y_test", y_test),
        ):
            np.save(Path(room) / f"{part}.npy", values)
        for name in names:
            print(f"… {name}", file=sys.stderr)
            told = subprocess.run(
                [sys.executable, __file__, "--run", name, room],
                env=os.environ | ONE_THREAD,
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            )
            results.append(json.loads(told.stdout.splitlines()[-1]))
    kind = options.images or options.features or "synthetic"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "numpy", "lightgbm"))
    text = (
        f"{kind if isinstance(kind, str) else kind.name}: {len(y):,} by {X.shape[1]:,} features, {int(y.max()) + 1} "
        f"classes, {len(y_test):,} test rows; one BLAS thread; {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, {libraries}\n\n{table(results)}\n"
    )
    print(text)
    if options.write:
        with options.write.open("a") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
