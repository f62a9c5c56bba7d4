"""Held-out predictions of training images, computed once and cached in the store.

An interrupted comparison continues where it stopped. A missing or damaged file of the cache is computed again.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from hashlib import sha256
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from penult.files import replace_file
from penult.pipeline.heads.numerics.folds import sample
from penult.pipeline.heads.out_of_fold import HeadPlan, OutOfFold, predict_out_of_fold
from penult.pipeline.heads.training_matrix import usable_memory_bytes
from penult.pipeline.samples.rows import Samples
from penult.store import Space, Store
from penult.store.features import gather

if TYPE_CHECKING:
    from penult.pipeline.heads.numerics.basis import Basis

__all__ = ["HeldOutCache", "limit_rows", "stratified_part"]

FORMAT = 1
LIBRARIES = ("penult", "scikit-learn", "numpy", "lightgbm")

# The share of the memory that cross-validation may use.
MEMORY_SHARE = 0.5

# float32 copies at the same time: all rows, the rows outside of a fold, and at worst two scaled copies of those.
COPIES = 4


class HeldOutCache:
    """Held-out predictions for the training rows of one dataset version.

    A file of the cache is named by everything that its content depends on. ``names`` are the classes, and ``codes``
    the class of each row. ``computed`` counts the results that were not in the cache.
    """

    def __init__(self, store: Store, train: Samples) -> None:
        self.store, self.train = store, train
        self.folder = store.path / "comparisons"
        self.names, self.codes = np.unique(train.labels.astype(str), return_inverse=True)
        self.computed = 0
        self._rows = _digest(train)
        self._features: tuple[Sequence[Space], NDArray[np.float32]] | None = None

    def predictions(self, spaces: Sequence[Space], plan: HeadPlan, *, basis: "Basis | None" = None) -> OutOfFold:
        """Returns the held-out predictions of a head on these spaces, from the cache if they are there.

        Features are read only if they are needed. Predictions of an estimator object are not cached, because its name
        does not identify it.
        """
        path = self._path(spaces, plan) if isinstance(plan.head, str) else None
        result = None if path is None else self._read(path)
        if result is None:
            result = predict_out_of_fold(self.features(spaces), self.codes, self.train.groups, plan, basis=basis)
            self.computed += 1
            if path is not None:
                self._write(path, result)
        return result

    def features(self, spaces: Sequence[Space]) -> NDArray[np.float32]:
        """Returns the features of the rows; those of the last spaces stay in memory."""
        if self._features is None or self._features[0] is not spaces:
            self._features = None  # frees the memory before the next rows are read
            self._features = spaces, gather(spaces, self.train.keys)
        return self._features[1]

    def _path(self, spaces: Sequence[Space], plan: HeadPlan) -> Path:
        content = [
            FORMAT,
            self._rows,
            [space.spec.id for space in spaces],
            asdict(plan),
            {library: version(library) for library in LIBRARIES},
        ]
        name = sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()[:32]
        return self.folder / f"{name}.npz"

    def _read(self, path: Path) -> OutOfFold | None:
        try:  # from memory, because NumPy does not close a damaged file
            with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as file:
                probabilities: NDArray[np.float32] = file["probabilities"]
                seconds = float(file["seconds"])
        except (OSError, ValueError, KeyError, BadZipFile):
            return None
        is_whole = probabilities.shape == (len(self.train), len(self.names))
        return OutOfFold(probabilities, seconds) if is_whole else None

    def _write(self, path: Path, result: OutOfFold) -> None:
        """Writes a result. A read-only store is no reason not to compare."""
        image = BytesIO()
        np.savez(image, probabilities=result.probabilities, seconds=np.float64(result.seconds))
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, image.getvalue(), is_durable=False)


def _digest(train: Samples) -> str:
    total = sha256(np.ascontiguousarray(train.keys).data)
    for column in (train.labels, train.groups):
        total.update(json.dumps(None if column is None else [str(value) for value in column]).encode())
    return total.hexdigest()


def limit_rows(train: Samples, width: int, most: int | None = None) -> tuple[Samples, tuple[str, ...]]:
    """Returns the samples, or a stratified part that fits into memory at ``width`` and has at most ``most`` rows.

    The same samples give the same part. The second value are notes for the user.
    """
    memory = usable_memory_bytes()
    fitting = len(train) if memory is None else int(MEMORY_SHARE * memory / (COPIES * 4 * width))
    bound = min(fitting, len(train) if most is None else most)
    if bound >= len(train):
        return train, ()
    part = stratified_part(train, bound, seed=0)
    why = "as many as fit into memory" if bound == fitting else "which is enough to compare heads"
    return part, (f"{len(part):,} of the {len(train):,} training images were held out, {why}",)


def stratified_part(train: Samples, most: int, *, seed: int) -> Samples:
    """Returns about ``most`` samples, with the same share of each class."""
    codes = np.unique(train.labels.astype(str), return_inverse=True)[1]
    rows = sample(codes, most, seed=seed)
    return replace(
        train,
        keys=train.keys[rows],
        labels=train.labels[rows],
        paths=tuple(train.paths[row] for row in rows),
        groups=None if train.groups is None else train.groups[rows],
    )
