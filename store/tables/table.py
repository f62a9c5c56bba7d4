"""A table of samples in memory, with a key, a path and columns for each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError, UnknownNameError
from penult.store.tables.columns import as_column

RESERVED = ("key", "path")
"""The fields of every row; no other column may have these names."""

KNOWN_COLUMNS = (*RESERVED, "label", "split", "group")
"""The names with a meaning; users may write them in any case, and penult writes them in lower case."""


@dataclass(frozen=True, eq=False)
class Table:
    """Samples with their labels; the columns ``label``, ``split`` and ``group`` have a meaning, all others are free.

    A key may occur in several rows: the same image at two paths.

    >>> table = Table(np.zeros((2, 16), np.uint8), ("a.jpg", "b.jpg"), {"label": ["ant", "bee"]})
    >>> table.labels.tolist(), table.splits, table.select(table.labels == "bee").paths
    (['ant', 'bee'], None, ('b.jpg',))
    """

    keys: NDArray[np.uint8]
    paths: tuple[str, ...]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = np.array(self.keys, order="C")
        if keys.size == 0:
            keys = np.empty((0, 16), np.uint8)
        if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != 16:
            raise InputError(f"The keys are {keys.dtype} of shape {keys.shape}", expected="uint8 of shape (n, 16)")
        keys.setflags(write=False)
        columns = {name: as_column(values, name=name) for name, values in self.columns.items()}
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "paths", tuple(self.paths))
        object.__setattr__(self, "columns", MappingProxyType(columns))
        for name, values in {"path": self.paths, **columns}.items():
            if len(values) != len(keys):
                raise InputError(f"{name!r} has {len(values)} rows", expected=f"{len(keys)}, one for each key")
        for name in columns:
            _check_name(name)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def labels(self) -> NDArray[Any] | None:
        """The column ``label``, or None."""
        return self.columns.get("label")

    @property
    def splits(self) -> NDArray[Any] | None:
        """The column ``split``, or None."""
        return self.columns.get("split")

    @property
    def groups(self) -> NDArray[Any] | None:
        """The column ``group``, or None."""
        return self.columns.get("group")

    def key_bytes(self) -> list[bytes]:
        """Returns the keys as bytes, for use in a dict."""
        data = self.keys.tobytes()
        return [data[start : start + 16] for start in range(0, len(data), 16)]

    def select(self, rows: str | NDArray[Any]) -> "Table":
        """Returns the rows of one split, of a mask, or at row numbers in their order."""
        places = self._split(rows) if isinstance(rows, str) else np.asarray(rows)
        if places.dtype == np.bool_:
            if places.shape != (len(self),):
                raise InputError(f"The mask has the shape {places.shape}", expected=f"({len(self)},)")
            paths = tuple(compress(self.paths, places))
        else:
            paths = tuple(self.paths[place] for place in places)
        return Table(self.keys[places], paths, {name: column[places] for name, column in self.columns.items()})

    def with_columns(
        self, columns: Mapping[str, Sequence[Any] | NDArray[Any]] | None = None, **named: Sequence[Any] | NDArray[Any]
    ) -> "Table":
        """Returns the same rows with columns added or replaced, given as a mapping, by name, or both."""
        return Table(self.keys, self.paths, {**self.columns, **(columns or {}), **named})  # type: ignore[dict-item]  # as_column takes both

    def _split(self, name: str) -> NDArray[np.bool_]:
        if self.splits is None:
            raise InputError(
                f"The table has no splits, so there is no split {name!r}", remedy="split the dataset first"
            )
        mask: NDArray[np.bool_] = self.splits == name
        if not mask.any():
            raise UnknownNameError.among("split", name, {str(value) for value in self.splits if value is not None})
        return mask


def _check_name(name: str) -> None:
    if not name or name != name.strip() or not name.isprintable() or name in RESERVED:
        raise InputError(
            f"{name!r} is not a valid column name", expected=f"a printable name other than {' or '.join(RESERVED)}"
        )
    if name not in KNOWN_COLUMNS and name.lower() in KNOWN_COLUMNS:
        raise InputError(
            f"{name!r} is not a valid column name", expected=repr(name.lower()), remedy="rename the column"
        )
