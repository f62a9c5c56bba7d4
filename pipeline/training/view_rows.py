"""Training rows of several views of each image: data augmentation with cached features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.samples.rows import Samples
from penult.store import Space, Store
from penult.store.features import gather

__all__ = ["AVERAGED", "ViewRows", "training_views", "views_of"]

AVERAGED = (
    "Test images were predicted by the mean over these views. 'penult predict --views' does the same; without it, only "
    "the unchanged image is used."
)


@dataclass(frozen=True)
class ViewRows:
    """The rows of all views, one view after the other. The views of an image form a group."""

    inputs: NDArray[np.float32]
    codes: NDArray[np.intp]
    groups: NDArray[Any]
    note: str


def views_of(store: Store, spaces: Sequence[Space], views: Sequence[str]) -> list[list[Space]]:
    """Returns for each view the spaces that differ from ``spaces`` in the view only."""
    held = {space.spec.id: space for space in store.spaces()}
    found = []
    for view in views or [space.spec.view for space in spaces[:1]]:
        specs = [replace(space.spec, view=view) for space in spaces]
        lacking = [spec for spec in specs if spec.id not in held]
        if lacking:
            raise InputError(
                f"The store has no features {lacking[0].name}",
                expected=f"a space for each of the views {', '.join(views)}",
                remedy=f"penult extract IMAGES --backbone {lacking[0].backbone} --views {','.join(views)}",
            )
        found.append([held[spec.id] for spec in specs])
    return found


def training_views(views: Sequence[Sequence[Space]], samples: Samples, codes: NDArray[np.intp]) -> ViewRows:
    """Returns the rows of ``samples`` in all ``views``.

    The views of an image form a group, so that cross-validation never tests on one view of a training image.
    """
    inputs = np.concatenate([gather(spaces, samples.keys) for spaces in views])
    own = (
        np.array([str(number) for number in range(len(samples))], object) if samples.groups is None else samples.groups
    )
    names = ", ".join(spaces[0].spec.view for spaces in views)
    note = f"Trained on {len(views)} views of each of {len(samples):,} images: {names}."
    return ViewRows(inputs, np.tile(codes, len(views)), np.tile(own, len(views)), note)
