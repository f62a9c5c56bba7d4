"""The rows for measuring heads: a synthetic set, folders of images, or arrays in a file."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rows:
    """Training and test rows (n, D) with class codes, and their name in the tables."""

    name: str
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray

    @property
    def classes(self) -> int:
        return int(self.y.max()) + 1

    def save(self, folder: Path) -> None:
        for part in ("X", "X_test"):
            np.save(folder / f"{part}.npy", getattr(self, part).astype(np.float32))
        for part in ("y", "y_test"):
            np.save(folder / f"{part}.npy", getattr(self, part))


@dataclass(frozen=True)
class Kind:
    """Synthetic rows: Student's t noise (6 degrees of freedom) around class means that lie ``apart``, one covariance.

    The covariance's spectrum falls as rank ** -1.2 in a random orthonormal basis. 0.05 is added, and negative values
    become 0, as in features after a ReLU. Rows are stored as float16. With ``apart`` 0.1, the set is about as hard as
    CIFAR-10 for a small network (accuracy about .8 at 10,000 rows). With 0.25, it is nearly separable (.98).
    """

    width: int = 1280
    classes: int = 10
    apart: float = 0.1
    seed: int = 0


def synthetic(rows: int, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(kind.seed)
    y = rng.integers(0, kind.classes, rows)
    spread = np.arange(1, kind.width + 1) ** -0.6
    turn = np.linalg.qr(rng.normal(size=(kind.width, kind.width)))[0].astype(np.float32)
    means = rng.normal(size=(kind.classes, kind.width)) * spread * kind.apart
    X = np.empty((rows, kind.width), np.float16)
    for start in range(0, rows, 4096):
        part = y[start : start + 4096]
        tails = np.sqrt(6 / rng.chisquare(6, (len(part), 1)))
        raw = means[part] + rng.normal(size=(len(part), kind.width)) * spread * tails
        X[start : start + 4096] = np.maximum(raw.astype(np.float32) @ turn + 0.05, 0)
    return X, y


def synthetic_rows(rows: int, kind: Kind) -> Rows:
    X, y = synthetic(rows + 10_000, kind)
    return Rows(f"synthetic, {kind.apart} apart", X[:rows], y[:rows], X[rows:], y[rows:])


def file_rows(file: Path) -> Rows:
    """Reads arrays X (n, D) and y (n), and X_test and y_test; without these, a fifth of the rows is the test."""
    with np.load(file) as held:
        arrays: dict[str, Any] = dict(held)
    y = np.unique(arrays["y"], return_inverse=True)[1]
    if "X_test" in arrays:
        y_test = np.searchsorted(np.unique(arrays["y"]), arrays["y_test"])
        return Rows(file.stem, arrays["X"], y, arrays["X_test"], y_test)
    order = np.random.default_rng(1).permutation(len(y))
    test, train = np.split(order, [min(10_000, len(y) // 5)])
    return Rows(file.stem, arrays["X"][train], y[train], arrays["X"][test], y[test])


def image_rows(folder: Path) -> Rows:
    """Extracts a folder with one folder per class, and splits it as ``penult fit`` does."""
    import penult
    from penult.pipeline.fit import save_dataset
    from penult.pipeline.progress import Silent
    from penult.pipeline.samples.rows import choose_rows
    from penult.store.features import choose_spaces, gather

    with tempfile.TemporaryDirectory() as room:
        store = penult.open_store(Path(room) / "store")
        from penult.pipeline.extraction.extract import find_images

        files = find_images(folder, Silent())
        penult.extract(files, store)
        _, dataset = save_dataset(store, "images", files, str(folder))
        rows = choose_rows(dataset)
        spaces, names = choose_spaces(store, "penultimate"), np.array(rows.classes)
        parts = [(gather(spaces, part.keys), np.searchsorted(names, part.labels)) for part in (rows.train, rows.test)]
    return Rows(folder.name, *parts[0], *parts[1])
