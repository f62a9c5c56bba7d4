"""The columns of a dataset: text, integers, floats or booleans, with missing values."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError

Kind = Literal["text", "int", "float", "bool"]

KINDS: tuple[Kind, ...] = ("text", "int", "float", "bool")

_DTYPES: dict[Kind, type] = {"text": object, "int": np.int64, "float": np.float64, "bool": np.bool_}
_LIMIT = 2**63


def as_column(values: Sequence[Any] | NDArray[Any], *, name: str = "column") -> NDArray[Any]:
    """Returns ``values`` as a read-only column.

    Text is an object array of ``str``; other columns are int64, float64 or bool. A missing value is None in text and
    NaN in float64. Integers and booleans with missing values form an object array with None.

    >>> as_column(["ant", None]).tolist()
    ['ant', None]
    >>> as_column([1, 2]).dtype, as_column([1, None]).dtype, as_column([1, 2.5]).dtype
    (dtype('int64'), dtype('O'), dtype('float64'))
    """
    given = values if isinstance(values, np.ndarray) else _objects(values)
    if given.ndim != 1:
        raise InputError(f"{name!r} has {given.ndim} dimensions", expected="one value for each row")
    if given.dtype.kind == "b":
        column: NDArray[Any] = given.astype(np.bool_)
    elif given.dtype.kind in "iu":
        column = _whole(given, name)
    elif given.dtype.kind == "f":
        column = given.astype(np.float64)
    else:
        column = _from_objects(given.astype(object), name)
    column.setflags(write=False)
    return column


def kind_of(column: NDArray[Any]) -> Kind:
    """Returns the kind of a column from ``as_column``; a column without values is text."""
    for kind, dtype in _DTYPES.items():
        if kind != "text" and column.dtype == dtype:
            return kind
    first = next((value for value in column if value is not None), "")
    return "bool" if isinstance(first, bool) else "int" if isinstance(first, int) else "text"


def missing_in(column: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns the mask of missing values in a column."""
    if column.dtype == np.float64:
        return np.asarray(np.isnan(column), np.bool_)
    if column.dtype == object:
        return np.asarray(column == None, np.bool_)  # noqa: E711 - elementwise, many times faster than a loop
    return np.zeros(len(column), np.bool_)


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    # np.array(values) would turn numbers among text into text, and lists of equal length into a matrix.
    column = np.empty(len(values), object)
    column[:] = values if isinstance(values, list) else list(values)
    return column


def _from_objects(column: NDArray[Any], name: str) -> NDArray[Any]:
    if set(map(type, column)) <= {str, type(None)}:  # a fast path for most columns, which can have a million rows
        return column.copy()
    plain = [_plain(value) for value in column]
    kinds = set(map(type, plain)) - {type(None)}
    if not kinds <= {str} and not kinds <= {bool} and not kinds <= {int, float}:
        shown = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InputError(
            f"{name!r} contains values of kind {shown}",
            expected="text, integers, floats or booleans, one kind in a column",
            remedy="if an image has several labels, use one column of booleans for each label",
        )
    has_missing = None in plain
    if float in kinds:
        return np.array([np.nan if value is None else value for value in plain], np.float64)
    if kinds == {int}:
        if any(not -_LIMIT <= value < _LIMIT for value in plain if value is not None):
            raise InputError(f"{name!r} contains an integer beyond 64 bits", remedy="store such numbers as text")
        return _objects(plain) if has_missing else np.array(plain, np.int64)
    if kinds == {bool} and not has_missing:
        return np.array(plain, np.bool_)
    return _objects(plain)


def _plain(value: Any) -> Any:
    if value is None or type(value) in {str, int, bool}:
        return value
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, str):
        value = str(value)
    # Other libraries mark missing values of any kind with NaN.
    return None if value != value else value  # noqa: PLR0124 - only NaN differs from itself


def _whole(given: NDArray[Any], name: str) -> NDArray[np.int64]:
    if given.dtype == np.uint64 and len(given) and given.max() >= _LIMIT:
        raise InputError(f"{name!r} contains an integer beyond 64 bits", remedy="store such numbers as text")
    return given.astype(np.int64)
