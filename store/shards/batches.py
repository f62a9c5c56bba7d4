"""A batch: keys and rows that were checked and sorted before anything is written."""

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
    """Rows in any order, and the order that sorts their distinct keys."""

    spec: SpaceSpec
    keys: Keys
    order: NDArray[np.intp]
    rows: NDArray[np.floating[Any]]

    @classmethod
    def of(cls, spec: SpaceSpec, keys: Iterable[bytes] | Keys, rows: NDArray[np.floating[Any]]) -> Self:
        """Sorts the keys; raises an error for a wrong shape or type. ``rows_between`` checks the values."""
        array, rows = key_array(keys), np.asarray(rows)
        _require_shape(spec, array, rows)
        high, low = halves(array)
        order = order_of(high, low)
        is_repeat = repeats(high[order], low[order])
        for i in np.flatnonzero(is_repeat):
            _require_same(array[order[i]], *(rows[order[i - 1 : i + 1]].astype(spec.stored_type)))
        order = order[~is_repeat]
        return cls(spec, array[order], order, rows)

    def rows_between(self, first: int, end: int) -> Stored:
        """Returns rows in key order as they are stored; raises an error for values that are not finite."""
        chosen = self.order[first:end]
        with np.errstate(over="ignore", under="ignore"):
            stored: Stored = self.rows[chosen].astype(self.spec.stored_type, order="C", copy=False)
        if not is_finite(stored):
            raise _not_finite(self.spec, self.keys[first:end], self.rows[chosen])
        return stored


def _require_shape(spec: SpaceSpec, keys: Keys, rows: NDArray[np.floating[Any]]) -> None:
    if rows.ndim != 2 or rows.shape[1] != spec.width:
        raise RowsRefusedError(
            f"The rows have the shape {rows.shape}", expected=f"(n, {spec.width}), as wide as {spec.name}"
        )
    if len(rows) != len(keys):
        raise RowsRefusedError(f"There are {len(keys)} keys and {len(rows)} rows", expected="one row for each key")
    if not np.issubdtype(rows.dtype, np.floating):
        raise RowsRefusedError(f"The rows have the dtype {rows.dtype}", expected="float16, float32 or float64")


def _require_same(key: Keys, one: Stored, other: Stored) -> None:
    if one.tobytes() != other.tobytes():
        raise RowsRefusedError(
            f"The key {key.tobytes().hex()} comes twice with different rows",
            expected="one row for each key",
            remedy="add only one of them: one image and one backbone give one row",
        )


def _not_finite(spec: SpaceSpec, keys: Keys, rows: NDArray[np.floating[Any]]) -> RowsRefusedError:
    is_bad = ~np.isfinite(rows).all(axis=1)
    if is_bad.any():
        first = keys[np.argmax(is_bad)].tobytes().hex()
        return RowsRefusedError(
            f"Some rows contain NaN or infinity, for example the row of the key {first}",
            expected="finite numbers",
        )
    largest = np.finfo(spec.stored_type).max
    return RowsRefusedError(
        f"The largest value in the rows is {np.abs(rows).max():g}",
        expected=f"at most {largest:g}, the largest {spec.dtype} number",
        remedy="use a space with the dtype float32" if spec.dtype == "float16" else "scale the rows down",
    )
