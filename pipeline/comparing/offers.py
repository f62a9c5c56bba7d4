"""Which features of a store are worth comparing where nobody names any, and what it cost to extract them."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store import Space, Store

__all__ = ["extraction_milliseconds", "offered_features"]


def offered_features(store: Store, keys: NDArray[np.uint8], notes: list[str]) -> list[list[Space]]:
    """Returns each space that has a row for all keys, the taps of each backbone together, and the backbones together.

    Spaces that lack rows are named in ``notes``.
    """
    whole = []
    for space in store.spaces():
        if space.spec.view != "identity":
            continue
        missing = len(space.missing(keys))
        if missing:
            notes.append(f"{space.spec.name} has no features of {missing:,} training images and is left out")
        else:
            whole.append(space)
    if not whole:
        raise InputError(
            "no space of the store has features of all training images",
            expected="one at least",
            remedy="run 'penult extract' on the images of the dataset",
        )
    backbones: dict[tuple[str, str], list[Space]] = defaultdict(list)
    for space in whole:
        backbones[space.spec.fingerprint, space.spec.dtype].append(space)
    offers = [[space] for space in whole] + [taps for taps in backbones.values() if len(taps) > 1]
    last = {space.spec.fingerprint: space for space in whole if space.spec.tap == "penultimate"}
    if len(last) > 1:
        offers.append(list(last.values()))
    return offers


def extraction_milliseconds(store: Store, spaces: Sequence[Space]) -> float | None:
    """Returns what an image cost the jobs that made these spaces, in milliseconds of the whole job; None if unknown.

    One job that makes several taps of a backbone makes them in one pass, so the dearest tap of each backbone counts.
    """
    costs: dict[str, float] = {}
    for space in spaces:
        new, seconds = 0, 0.0
        for job in store.catalog.jobs.all():
            receipt = job.receipt or {}
            if space.spec.id in receipt.get("spaces", ()) and receipt.get("new"):
                new, seconds = new + receipt["new"], seconds + receipt["seconds"]
        if not new:
            return None
        costs[space.spec.fingerprint] = max(costs.get(space.spec.fingerprint, 0.0), 1000 * seconds / new)
    return round(sum(costs.values()), 2)
