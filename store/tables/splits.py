"""Which samples train and which test: by key, so that a sample never changes sides when others come."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isclose
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.keys import Keys
from penult.store.tables.columns import as_column, kind_of, missing_in
from penult.store.tables.split_units import Classes, Units, balance, share_out

EIGHTY_TWENTY: Mapping[str, float] = MappingProxyType({"train": 0.8, "test": 0.2})

Values = Sequence[Any] | NDArray[Any]


def split_by_key(
    keys: Keys,
    labels: Values | None = None,
    *,
    fractions: Mapping[str, float] = EIGHTY_TWENTY,
    groups: Values | None = None,
    previous: Mapping[bytes, str] | None = None,
    salt: str = "penult",
) -> NDArray[Any]:
    """Returns the split of each row, decided by a salted hash of its key alone, or of its group.

    All rows of a group, and all rows of a key, are on one side. Every class of two samples or groups is then given at
    least one on each side, as far as they go: those whose hashes are nearest to the other side move. The ``previous``
    splits of keys win over both; with them, adding samples moves no older one.
    """
    return _split(keys, labels, fractions, groups, previous, salt, is_exact=False)


def split_in_proportion(
    keys: Keys,
    labels: Values,
    *,
    fractions: Mapping[str, float] = EIGHTY_TWENTY,
    groups: Values | None = None,
    previous: Mapping[bytes, str] | None = None,
    salt: str = "penult",
) -> NDArray[Any]:
    """Returns the split of each row, with the fractions met in every class to within one sample or group.

    Where ``split_by_key`` leaves the share of a small class to chance, this gives it exactly. The price: without the
    ``previous`` splits, adding samples may move older ones; with them, it moves none.
    """
    return _split(keys, labels, fractions, groups, previous, salt, is_exact=True)


def _split(
    keys: Keys,
    labels: Values | None,
    fractions: Mapping[str, float],
    groups: Values | None,
    previous: Mapping[bytes, str] | None,
    salt: str,
    *,
    is_exact: bool,
) -> NDArray[Any]:
    names, ends = _thresholds(fractions)
    _check_length(labels, keys, "labels")
    _check_length(groups, keys, "groups")
    units = Units.of(keys, None if groups is None else as_column(groups, name="group"))
    positions = units.positions(salt)
    sides = np.searchsorted(ends[:-1], positions, side="right")
    fixed = units.earlier(keys, previous or {})
    # A split of before that is none of today's has a number past theirs, which the guard leaves alone.
    everything = [*names, *sorted(set(fixed.values()) - set(names))]
    for unit, name in fixed.items():
        sides[unit] = everything.index(name)
    if labels is not None:
        classes = Classes.of(as_column(labels, name="label"), units.of_row)
        if is_exact:
            share_out(sides, classes, positions=positions, ends=ends, is_fixed=units.mask(fixed))
        balance(sides, classes, positions=positions, ends=ends, is_fixed=units.mask(fixed))
    return np.array(everything, object)[sides][units.of_row]


def split_by_column(values: Values, sides: Mapping[Any, str], *, otherwise: str | None = None) -> NDArray[Any]:
    """Returns the split that ``sides`` gives for each row's value, else ``otherwise``.

    >>> split_by_column(["a", "b", "b"], {"a": "test"}, otherwise="train").tolist()
    ['test', 'train', 'train']
    """
    by_text = {str(value): side for value, side in sides.items()}
    splits = [by_text.get(str(value), otherwise) for value in as_column(values)]
    if None in splits:
        unknown = sorted({str(value) for value, side in zip(values, splits, strict=True) if side is None})
        raise InputError(
            f"The column holds {', '.join(unknown[:5])}{' …' if len(unknown) > 5 else ''}, for which no split is named",
            expected=f"one of {', '.join(by_text)}",
            remedy="name a split for each value, or one for all others",
        )
    return as_column(splits)


def split_by_time(times: Values, cut: str | float, *, names: tuple[str, str] = ("train", "test")) -> NDArray[Any]:
    """Returns the first name for rows before ``cut`` and the second for all others.

    Times are numbers, or text in ISO 8601.

    >>> split_by_time(["2024-03-01", "2024-11-30T12:00"], "2024-06-01").tolist()
    ['train', 'test']
    """
    column = as_column(times, name="time")
    missing = int(missing_in(column).sum())
    if missing:
        raise InputError(f"{missing} rows have no time", expected="a time in each row", remedy="leave these rows out")
    if isinstance(cut, str) or kind_of(column) == "text":
        moments = [_moment(value) for value in [*column.tolist(), cut]]
        if len({moment.tzinfo is None for moment in moments}) > 1:
            raise InputError("Some times name a time zone and others do not", expected="all of them, or none")
        is_early = [moment < moments[-1] for moment in moments[:-1]]
    else:
        is_early = (column < cut).tolist()
    return as_column([names[0] if early else names[1] for early in is_early])


def _moment(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{value!r} is no time", expected="ISO 8601, such as 2024-06-01 or 2024-06-01T12:30"
        ) from error


def _check_length(values: Values | None, keys: Keys, what: str) -> None:
    if values is not None and len(values) != len(keys):
        raise InputError(f"There are {len(values)} {what}", expected=f"{len(keys)}, one for each key")


def _thresholds(fractions: Mapping[str, float]) -> tuple[list[str], NDArray[np.float64]]:
    if len(fractions) < 2 or any(not 0 < part < 1 for part in fractions.values()):
        raise InputError(f"The fractions are {dict(fractions)}", expected="two splits or more, each between 0 and 1")
    if not isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        raise InputError(f"The fractions {dict(fractions)} sum to {sum(fractions.values()):g}", expected="a sum of 1")
    return list(fractions), np.cumsum(list(fractions.values()))
