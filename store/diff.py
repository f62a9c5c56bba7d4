"""Compares the spaces, keys and rows of two stores; their history and their shards do not matter."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penult.store.keys import Keys, halves, no_keys
from penult.store.shards.key_table import ABSENT, search
from penult.store.spaces.space import Space
from penult.store.spec import SpaceSpec
from penult.store.stores import Store

BLOCK_BYTES = 32 << 20

Progress = Callable[[int, int], None]
"""Receives the number of compared rows and the total."""


@dataclass(frozen=True, eq=False)
class SpaceDiff:
    """The differences in one space: keys that only one store contains, and keys with different rows."""

    spec: SpaceSpec
    same: int
    only_in_first: Keys
    only_in_second: Keys
    different: Keys

    @property
    def is_empty(self) -> bool:
        """Whether both stores contain the same rows."""
        return not (len(self.only_in_first) or len(self.only_in_second) or len(self.different))


def diff_stores(first: Store, second: Store, *, progress: Progress | None = None) -> list[SpaceDiff]:
    """Compares all rows bit for bit, in blocks; a space that is missing in one store counts as empty."""
    ours, theirs = ({space.spec.id: space for space in store.spaces()} for store in (first, second))
    pairs = [(ours.get(name), theirs.get(name)) for name in sorted(ours.keys() | theirs.keys())]
    total = sum(len(space) for pair in pairs for space in pair if space is not None)
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        if progress:
            progress(done, total)

    return [_compared(one, other, advance) for one, other in pairs]


def _compared(first: Space | None, second: Space | None, advance: Callable[[int], None]) -> SpaceDiff:
    spec = next(space.spec for space in (first, second) if space is not None)
    ours, theirs = (no_keys() if space is None else space.keys() for space in (first, second))
    is_shared = _is_among(ours, theirs)
    shared, only_ours, only_theirs = ours[is_shared], ours[~is_shared], theirs[~_is_among(theirs, ours)]
    advance(len(only_ours) + len(only_theirs))
    different = [no_keys()]
    if first is not None and second is not None:
        for block in _blocks(shared, spec):
            one, other = (space.load(block, dtype=spec.dtype).features for space in (first, second))
            different.append(block[(one.view(np.uint8) != other.view(np.uint8)).any(axis=1)])
            advance(2 * len(block))
    unequal = np.concatenate(different)
    return SpaceDiff(spec, len(shared) - len(unequal), only_ours, only_theirs, unequal)


def _is_among(keys: Keys, sorted_keys: Keys) -> NDArray[np.bool_]:
    if not len(sorted_keys):
        return np.zeros(len(keys), dtype=np.bool_)
    found: NDArray[np.bool_] = search(*halves(sorted_keys), *halves(keys)) != ABSENT
    return found


def _blocks(keys: Keys, spec: SpaceSpec) -> Iterator[Keys]:
    step = max(BLOCK_BYTES // spec.row_bytes, 1)
    for start in range(0, len(keys), step):
        yield keys[start : start + step]
