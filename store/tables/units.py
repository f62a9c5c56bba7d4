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
