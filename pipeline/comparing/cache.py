"""What was computed for a comparison is kept in the store, so that it is computed once and an interrupted run goes on.

It is derived: a file that is absent or damaged is made anew.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from penult.files import replace_file
from penult.pipeline.heads.out_of_fold import HeadPlan, OutOfFold
from penult.pipeline.samples.rows import Samples
from penult.store import Space

__all__ = ["KeptResults"]

FORMAT = 1
LIBRARIES = ("penult", "scikit-learn", "numpy", "lightgbm")


class KeptResults:
    """The results over the training rows of one dataset version, each named by all that it depends on."""

    def __init__(self, store: Path, train: Samples) -> None:
        self.folder = store / "comparisons"
        self._rows = _digest(train)

    def path(self, spaces: Sequence[Space], plan: HeadPlan) -> Path:
        """Returns where the result of these spaces and this head is kept, whether it is there or not."""
        told = [
            FORMAT,
            self._rows,
            [space.spec.id for space in spaces],
            asdict(plan),
            {library: version(library) for library in LIBRARIES},
        ]
        name = sha256(json.dumps(told, sort_keys=True, default=repr).encode()).hexdigest()[:32]
        return self.folder / f"{name}.npz"

    def read(self, path: Path, n_rows: int, n_classes: int) -> OutOfFold | None:
        """Returns a kept result, or None where there is no whole one."""
        try:  # from memory, since NumPy leaves a damaged file open
            with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as file:
                chances: NDArray[np.float32] = file["probabilities"]
                seconds = float(file["seconds"])
        except (OSError, ValueError, KeyError, BadZipFile):
            return None
        return OutOfFold(chances, seconds) if chances.shape == (n_rows, n_classes) else None

    def keep(self, path: Path, result: OutOfFold) -> None:
        """Writes a result; a store that cannot be written is no reason not to compare."""
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
