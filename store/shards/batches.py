"""A batch: keys and rows made ready to be stored, or refused before anything is written."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from penult.errors import RowsRefusedError
from penult.store.keys import Keys, halves, key_array, order_of, repeats
from penult.store.shards.cast import is_finite
from penult.store.shards.checksums import Stored
from penult.store.spec import SpaceSpec


@dataclass(frozen=True)
class Batch:
    """Rows in any order, and the order in which their keys are sorted and distinct."""

    spec: SpaceSpec
    keys: Keys
    order: NDArray[np.intp]
    rows: NDArray[np.floating[Any]]

    @classmethod
    def of(cls, spec: SpaceSpec, keys: Iterable[bytes] | Keys, rows: NDArray[np.floating[Any]]) -> Self:
        """Sorts the keys; refuses rows that cannot stand in this space, except for the numbers in them."""
        array, rows = key_array(keys), np.asarray(rows)
        _require_shape(spec, array, rows)
        high, low = halves(array)
        order = order_of(high, low)
        is_again = repeats(high[order], low[order])
        for i in np.flatnonzero(is_again):
            _require_same(array[order[i]], *(rows[order[i - 1 : i + 1]].astype(spec.stored_type)))
        order = order[~is_again]
        return cls(spec, array[order], order, rows)

    def rows_between(self, first: int, end: int) -> Stored:
        """Returns some of the rows in the order of their keys, as they are stored; refuses what is not finite."""
        chosen = self.order[first:end]
        with np.errstate(over="ignore", under="ignore"):
            stored: Stored = self.rows[chosen].astype(self.spec.stored_type, order="C", copy=False)
        if not is_finite(stored):
            raise _not_finite(self.spec, self.keys[first:end], self.rows[chosen])
        return stored


def _require_shape(spec: SpaceSpec, keys: Keys, rows: NDArray[np.floating[Any]]) -> None:
    if rows.ndim != 2 or rows.shape[1] != spec.width:
        raise RowsRefusedError(
            f"The rows are an array {rows.shape}", expected=f"(n, {spec.width}), the width of {spec.name}"
        )
    if len(rows) != len(keys):
        raise RowsRefusedError(f"{len(keys)} keys come with {len(rows)} rows", expected="one row a key")
    if not np.issubdtype(rows.dtype, np.floating):
        raise RowsRefusedError(f"The rows are of {rows.dtype}", expected="float16, float32 or float64")


def _require_same(key: Keys, one: Stored, other: Stored) -> None:
    if one.tobytes() != other.tobytes():
        raise RowsRefusedError(
            f"The key {key.tobytes().hex()} is given twice with different rows",
            expected="one row a key",
            remedy="add only one of them: the same image and backbone give one row",
        )


def _not_finite(spec: SpaceSpec, keys: Keys, rows: NDArray[np.floating[Any]]) -> RowsRefusedError:
    is_bad = ~np.isfinite(rows).all(axis=1)
    if is_bad.any():
        first = keys[np.argmax(is_bad)].tobytes().hex()
        return RowsRefusedError(
            f"Rows hold NaN or infinity, such as the one under the key {first}",
            expected="finite numbers",
        )
    largest = np.finfo(spec.stored_type).max
    return RowsRefusedError(
        f"The rows reach {np.abs(rows).max():g}",
        expected=f"at most {largest:g}, the largest {spec.dtype}",
        remedy="use a space of float32" if spec.dtype == "float16" else "scale the rows down",
    )
