"""What a split does not divide: the rows of a key, or those of a group."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.keys import Keys
from penult.store.tables.columns import missing_in


@dataclass(frozen=True)
class Units:
    """What is not to be divided: the rows of a key or of a group."""

    names: list[bytes]
    of_row: NDArray[np.int64]

    @classmethod
    def of(cls, keys: Keys, groups: NDArray[Any] | None) -> "Units":
        """Numbers the units of rows; a row without a group is one of its key."""
        data = keys.tobytes()
        names = [b"key\0" + data[start : start + 16] for start in range(0, len(data), 16)]
        if groups is not None:
            for row in np.flatnonzero(~missing_in(groups)):
                names[row] = b"group\0" + str(groups[row]).encode("utf-8", "surrogatepass")
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
        """Returns which units are among ``fixed``."""
        mask = np.zeros(len(self.names), np.bool_)
        mask[list(fixed)] = True
        return mask


Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Classes:
    """Which units (samples, or groups of them) have rows of which class, each pair once."""

    count: int
    of_pair: Numbers
    units: Numbers

    @classmethod
    def of(cls, labels: NDArray[Any], unit_of_row: Numbers) -> "Classes":
        """Numbers the classes in the order of their names, so that the order of the rows does not matter."""
        rows = np.flatnonzero(~missing_in(labels))
        values = labels[rows].tolist()
        numbers = {value: number for number, value in enumerate(sorted(set(values)))}
        codes = np.array([numbers[value] for value in values], np.int64)
        pairs = np.unique(np.stack([codes, unit_of_row[rows]], axis=1), axis=0)
        return cls(len(numbers), pairs[:, 0], pairs[:, 1])


def balance(
    sides: Numbers,
    classes: Classes,
    *,
    positions: NDArray[np.float64],
    ends: NDArray[np.float64],
    is_fixed: NDArray[np.bool_],
) -> None:
    """Moves units in place, until each class has one on each side or as many sides as it has units.

    Where there are fewer units than sides, the larger sides come first. No unit moves that is fixed, or that another
    class needs where it is; of the others, the one whose position is nearest to the side that lacks one.
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


def share_out(
    sides: Numbers,
    classes: Classes,
    *,
    positions: NDArray[np.float64],
    ends: NDArray[np.float64],
    is_fixed: NDArray[np.bool_],
) -> None:
    """Sets the sides of all units that are not fixed, in place.

    Each unit goes where its class lacks most of its share, the largest side first among equals. A group of several
    classes goes by the class of which there is the least.
    """
    shares = np.diff(ends, prepend=0.0)
    sizes = np.bincount(classes.of_pair, minlength=classes.count)
    # Of each unit, the rarest of its classes: pairs sorted by unit, then by how many units the class has.
    order = np.lexsort((classes.of_pair, sizes[classes.of_pair], classes.units))
    units, first = np.unique(classes.units[order], return_index=True)
    class_of = classes.of_pair[order][first]
    counts = np.zeros((classes.count, len(shares)))
    is_counted = is_fixed[units] & (sides[units] < len(shares))
    np.add.at(counts, (class_of[is_counted], sides[units[is_counted]]), 1)
    for place in np.lexsort((positions[units], class_of)):
        if not is_fixed[units[place]]:
            own = counts[class_of[place]]
            lack = shares * (own.sum() + 1) - own
            side = int(np.lexsort((-shares, -lack.round(9)))[0])
            sides[units[place]] = side
            own[side] += 1
