"""Views of the training images side by side: what augmentation is to a network that is trained, for cached features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.samples.rows import Samples
from penult.store import Space, Store
from penult.store.features import gather

__all__ = ["AVERAGED", "SeenViews", "training_views", "views_of"]

AVERAGED = (
    "The test images were judged by the mean over these views; predict takes it with --views, and otherwise looks at "
    "the image as it is."
)


@dataclass(frozen=True)
class SeenViews:
    """The rows of all views, one view after the other; the views of an image are of one group."""

    inputs: NDArray[np.float32]
    codes: NDArray[np.intp]
    groups: NDArray[Any]
    note: str


def views_of(store: Store, spaces: Sequence[Space], views: Sequence[str]) -> list[list[Space]]:
    """Returns for each view the spaces that show it and are otherwise ``spaces``."""
    held = {space.spec.id: space for space in store.spaces()}
    found = []
    for view in views or [space.spec.view for space in spaces[:1]]:
        specs = [replace(space.spec, view=view) for space in spaces]
        lacking = [spec for spec in specs if spec.id not in held]
        if lacking:
            raise InputError(
                f"The store holds no features {lacking[0].name}",
                expected=f"a space of each of the views {', '.join(views)}",
                remedy=f"penult extract IMAGES --backbone {lacking[0].backbone} --views {','.join(views)}",
            )
        found.append([held[spec.id] for spec in specs])
    return found


def training_views(views: Sequence[Sequence[Space]], samples: Samples, codes: NDArray[np.intp]) -> SeenViews:
    """Returns the rows of ``samples`` in all ``views``.

    Where folds are made among them, the views of an image stay together: a head that was fitted on one view of an
    image would be judged on another.
    """
    inputs = np.concatenate([gather(spaces, samples.keys) for spaces in views])
    own = (
        np.array([str(number) for number in range(len(samples))], object) if samples.groups is None else samples.groups
    )
    names = ", ".join(spaces[0].spec.view for spaces in views)
    note = f"Trained on {len(views)} views of each of {len(samples):,} images: {names}."
    return SeenViews(inputs, np.tile(codes, len(views)), np.tile(own, len(views)), note)
