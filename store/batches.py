"""A batch: keys and rows made ready to be stored, or refused before anything is written."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from penult.errors import RowsRefusedError
from penult.store.cast import is_finite
from penult.store.checksums import Stored
from penult.store.keys import Keys, halves, key_array, order_of, repeats
from penult.store.spec import SpaceSpec


@dataclass(frozen=True)
class Batch:
    """Rows as they are stored, under sorted and distinct keys."""

    keys: Keys
    rows: Stored

    @classmethod
    def of(cls, spec: SpaceSpec, keys: Iterable[bytes] | Keys, rows: NDArray[np.floating[Any]]) -> Self:
        """Sorts and converts the rows; refuses what cannot stand in this space."""
        array = key_array(keys)
        stored = _stored(spec, array, np.asarray(rows))
        high, low = halves(array)
        order = order_of(high, low)
        sorted_keys, sorted_rows = array[order], stored[order]
        again = np.flatnonzero(repeats(high[order], low[order]))
        if not len(again):
            return cls(sorted_keys, sorted_rows)
        for i in again:
            if sorted_rows[i].tobytes() != sorted_rows[i - 1].tobytes():
                raise RowsRefusedError(
                    f"The key {sorted_keys[i].tobytes().hex()} is given twice with different rows",
                    expected="one row a key",
                    remedy="add only one of them: the same image and backbone give one row",
                )
        kept = np.delete(np.arange(len(array)), again)
        return cls(sorted_keys[kept], sorted_rows[kept])


def _stored(spec: SpaceSpec, keys: Keys, rows: NDArray[np.floating[Any]]) -> Stored:
    if rows.ndim != 2 or rows.shape[1] != spec.width:
        raise RowsRefusedError(
            f"The rows are an array {rows.shape}", expected=f"(n, {spec.width}), the width of {spec.name}"
        )
    if len(rows) != len(keys):
        raise RowsRefusedError(f"{len(keys)} keys come with {len(rows)} rows", expected="one row a key")
    if not np.issubdtype(rows.dtype, np.floating):
        raise RowsRefusedError(f"The rows are of {rows.dtype}", expected="float16, float32 or float64")
    with np.errstate(over="ignore", under="ignore"):
        stored: Stored = np.ascontiguousarray(rows, dtype=spec.stored_type)
    if not is_finite(stored):
        raise _not_finite(spec, keys, rows)
    return stored


def _not_finite(spec: SpaceSpec, keys: Keys, rows: NDArray[np.floating[Any]]) -> RowsRefusedError:
    is_bad = ~np.isfinite(rows).all(axis=1)
    if is_bad.any():
        first = keys[np.argmax(is_bad)].tobytes().hex()
        return RowsRefusedError(
            f"{int(is_bad.sum())} of {len(rows)} rows hold NaN or infinity, the first under the key {first}",
            expected="finite numbers",
        )
    largest = np.finfo(spec.stored_type).max
    return RowsRefusedError(
        f"The rows reach {np.abs(rows).max():g}", expected=f"at most {largest:g}", remedy="use a space of float32"
    )
