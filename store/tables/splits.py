"""Assigns samples to splits by a hash of their key, so that new samples never move an older one."""

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
from penult.store.keys import Keys
from penult.store.tables.columns import as_column, kind_of, missing_in

EIGHTY_TWENTY: Mapping[str, float] = MappingProxyType({"train": 0.8, "test": 0.2})

Numbers = NDArray[np.int64]
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
    """Returns the split of each row, from a salted hash of its key or group.

    All rows of one group or key get one split. Then each class with two or more samples or groups gets at least one in
    each split, as far as they suffice: those whose hashes are nearest to that split move. The ``previous`` splits of
    keys take precedence over both, so that adding samples moves no older one.
    """
    names, ends = _thresholds(fractions)
    _check_length(labels, keys, "labels")
    _check_length(groups, keys, "groups")
    units = _Units.of(keys, None if groups is None else as_column(groups, name="group"))
    positions = units.positions(salt)
    sides = np.searchsorted(ends[:-1], positions, side="right")
    fixed = units.earlier(keys, previous or {})
    # A former split that is not in ``fractions`` gets a number after theirs, which ``_balance`` ignores.
    every_name = [*names, *sorted(set(fixed.values()) - set(names))]
    for unit, name in fixed.items():
        sides[unit] = every_name.index(name)
    if labels is not None:
        classes = _Classes.of(as_column(labels, name="label"), units.of_row)
        _balance(sides, classes, positions=positions, ends=ends, is_fixed=units.mask(fixed))
    return np.array(every_name, object)[sides][units.of_row]


def split_by_time(times: Values, cut: str | float, *, names: tuple[str, str] = ("train", "test")) -> NDArray[Any]:
    """Returns the first name for rows before ``cut`` and the second name for all others.

    Times are numbers, or text in ISO 8601.

    >>> split_by_time(["2024-03-01", "2024-11-30T12:00"], "2024-06-01").tolist()
    ['train', 'test']
    """
    column = as_column(times, name="time")
    missing = int(missing_in(column).sum())
    if missing:
        raise InputError(f"{missing} rows have no time", expected="a time in each row", remedy="remove these rows")
    if isinstance(cut, str) or kind_of(column) == "text":
        moments = [_moment(value) for value in [*column.tolist(), cut]]
        if len({moment.tzinfo is None for moment in moments}) > 1:
            raise InputError("Some times have a time zone and others do not", expected="all of them, or none")
        is_early = [moment < moments[-1] for moment in moments[:-1]]
    else:
        is_early = (column < cut).tolist()
    return as_column([names[0] if early else names[1] for early in is_early])


@dataclass(frozen=True)
class _Units:
    """The units that a split must not divide: the rows of one key or one group."""

    names: list[bytes]
    of_row: NDArray[np.int64]

    @classmethod
    def of(cls, keys: Keys, groups: NDArray[Any] | None) -> "_Units":
        """Numbers the units of rows; a row without a group belongs to the unit of its key."""
        data = keys.tobytes()
        names = [b"key\0" + data[start : start + 16] for start in range(0, len(data), 16)]
        if groups is not None:
            for row in np.flatnonzero(~missing_in(groups)):
                names[row] = b"group\0" + str(groups[row]).encode("utf-8", "surrogatepass")
        numbers: dict[bytes, int] = {}
        of_row = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
        return cls(list(numbers), of_row)

    def positions(self, salt: str) -> NDArray[np.float64]:
        """Returns a number in [0, 1) for each unit, which depends only on its name and the salt."""
        start = sha256(salt.encode() + b"\0")
        digests = []
        for name in self.names:
            one = start.copy()
            one.update(name)
            digests.append(one.digest()[:8])
        return (np.frombuffer(b"".join(digests), ">u8") >> 11) / float(1 << 53)

    def earlier(self, keys: Keys, previous: Mapping[bytes, str]) -> dict[int, str]:
        """Returns the previous split of each unit with a known key."""
        fixed: dict[int, str] = {}
        if not previous:
            return fixed
        data = keys.tobytes()
        for row, unit in enumerate(self.of_row.tolist()):
            side = previous.get(data[16 * row : 16 * row + 16])
            if side is not None and fixed.setdefault(unit, str(side)) != side:
                group = self.names[unit].split(b"\0", 1)[1].decode("utf-8", "replace")
                raise InputError(
                    f"The group {group!r} is already in the splits {fixed[unit]} and {side}",
                    expected="a group in one split",
                    remedy="split again without the previous splits",
                )
        return fixed

    def mask(self, fixed: Mapping[int, str]) -> NDArray[np.bool_]:
        """Returns the mask of the units in ``fixed``."""
        mask = np.zeros(len(self.names), np.bool_)
        mask[list(fixed)] = True
        return mask


@dataclass(frozen=True)
class _Classes:
    """The distinct pairs of a class and a unit with rows of it."""

    count: int
    of_pair: Numbers
    units: Numbers

    @classmethod
    def of(cls, labels: NDArray[Any], unit_of_row: Numbers) -> "_Classes":
        """Numbers the classes by sorted name, so that the order of the rows does not matter."""
        rows = np.flatnonzero(~missing_in(labels))
        values = labels[rows].tolist()
        numbers = {value: number for number, value in enumerate(sorted(set(values)))}
        codes = np.array([numbers[value] for value in values], np.int64)
        pairs = np.unique(np.stack([codes, unit_of_row[rows]], axis=1), axis=0)
        return cls(len(numbers), pairs[:, 0], pairs[:, 1])


def _balance(
    sides: Numbers,
    classes: _Classes,
    *,
    positions: NDArray[np.float64],
    ends: NDArray[np.float64],
    is_fixed: NDArray[np.bool_],
) -> None:
    """Moves units in place until each class has a unit in each split, or in as many splits as it has units.

    With fewer units than splits, the largest splits come first. Fixed units stay, and so do units that another class
    needs in their split. Of the others, the unit whose position is nearest to the split moves.
    """
    starts = np.concatenate([[0.0], ends[:-1]])
    order = np.lexsort((-np.arange(len(ends)), -(ends - starts).round(9)))
    counts = np.zeros((classes.count, int(max(sides.max(initial=0) + 1, len(ends)))), np.int64)
    np.add.at(counts, (classes.of_pair, sides[classes.units]), 1)
    sizes = np.bincount(classes.of_pair, minlength=classes.count)
    needs = np.zeros_like(counts, np.bool_)
    for rank, side in enumerate(order):
        needs[:, side] = rank < sizes
    by_unit = np.argsort(classes.units, kind="stable")
    for lacking in np.flatnonzero((needs & (counts == 0)).any(axis=1)):
        members = classes.units[classes.of_pair == lacking]
        for side in order[needs[lacking, order] & (counts[lacking, order] == 0)]:
            distance = np.maximum(starts[side] - positions[members], positions[members] - ends[side])
            for unit in members[np.lexsort((positions[members], distance))]:
                low, high = np.searchsorted(classes.units[by_unit], [unit, unit + 1])
                own = classes.of_pair[by_unit[low:high]]
                is_needed = needs[own, sides[unit]] & (counts[own, sides[unit]] == 1)
                if not is_fixed[unit] and not is_needed.any():
                    counts[own, sides[unit]] -= 1
                    counts[own, side] += 1
                    sides[unit] = side
                    break


def _moment(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{value!r} is not a time", expected="ISO 8601, such as 2024-06-01 or 2024-06-01T12:30"
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
