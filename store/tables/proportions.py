"""Shares the samples of each class out in exact proportion, in the order of their hashes."""

import numpy as np
from numpy.typing import NDArray

from penult.store.tables.guard import Classes, Numbers


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
