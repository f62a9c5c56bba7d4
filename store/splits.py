"""Which samples train and which test: by key, so that a sample never changes sides when others come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from math import isclose
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.columns import as_column, kind_of, missing_in
from penult.store.guard import Classes, balance
from penult.store.keys import Keys

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
    names, ends = _thresholds(fractions)
    _check_length(labels, keys, "labels")
    _check_length(groups, keys, "groups")
    units = _Units.of(keys, groups)
    positions = units.positions(salt)
    sides = np.searchsorted(ends[:-1], positions, side="right")
    fixed = units.earlier(keys, previous or {})
    # A split of before that is none of today's has a number past theirs, which the guard leaves alone.
    everything = [*names, *sorted(set(fixed.values()) - set(names))]
    for unit, name in fixed.items():
        sides[unit] = everything.index(name)
    if labels is not None:
        classes = Classes.of(as_column(labels, name="label"), units.of_row)
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


@dataclass(frozen=True)
class _Units:
    """What is not to be divided: the rows of a key or of a group."""

    names: list[bytes]
    of_row: NDArray[np.int64]

    @classmethod
    def of(cls, keys: Keys, groups: Values | None) -> "_Units":
        data = keys.tobytes()
        names = [b"key\0" + data[start : start + 16] for start in range(0, len(data), 16)]
        if groups is not None:
            column = as_column(groups, name="group")
            for row in np.flatnonzero(~missing_in(column)):
                names[row] = b"group\0" + str(column[row]).encode("utf-8", "surrogatepass")
        numbers: dict[bytes, int] = {}
        of_row = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
        return cls(list(numbers), of_row)

    def positions(self, salt: str) -> NDArray[np.float64]:
        """Returns a number in [0, 1) for each unit, which depends on nothing but its name and the salt."""
        start = sha256(salt.encode() + b"\0")
        digests = []
        for name in self.names:
            one = start.copy()
            one.update(name)
            digests.append(one.digest()[:8])
        return (np.frombuffer(b"".join(digests), ">u8") >> 11) / float(1 << 53)

    def earlier(self, keys: Keys, previous: Mapping[bytes, str]) -> dict[int, str]:
        """Returns the split in which each unit with a known key is already."""
        fixed: dict[int, str] = {}
        if not previous:
            return fixed
        data = keys.tobytes()
        for row, unit in enumerate(self.of_row.tolist()):
            side = previous.get(data[16 * row : 16 * row + 16])
            if side is not None and fixed.setdefault(unit, str(side)) != side:
                group = self.names[unit].split(b"\0", 1)[1].decode("utf-8", "replace")
                raise InputError(
                    f"The group {group!r} lies in the splits {fixed[unit]} and {side} already",
                    expected="a group on one side",
                    remedy="split anew, without regard to the earlier splits",
                )
        return fixed

    def mask(self, fixed: Mapping[int, str]) -> NDArray[np.bool_]:
        mask = np.zeros(len(self.names), np.bool_)
        mask[list(fixed)] = True
        return mask


def _check_length(values: Values | None, keys: Keys, what: str) -> None:
    if values is not None and len(values) != len(keys):
        raise InputError(f"There are {len(values)} {what}", expected=f"{len(keys)}, one for each key")


def _thresholds(fractions: Mapping[str, float]) -> tuple[list[str], NDArray[np.float64]]:
    if len(fractions) < 2 or any(not 0 < part < 1 for part in fractions.values()):
        raise InputError(f"The fractions are {dict(fractions)}", expected="two splits or more, each between 0 and 1")
    if not isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        raise InputError(f"The fractions {dict(fractions)} sum to {sum(fractions.values()):g}", expected="a sum of 1")
    return list(fractions), np.cumsum(list(fractions.values()))
