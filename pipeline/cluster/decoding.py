"""Decoding on any node of a Ray cluster, for actors that only run the backbone, such as those of few GPUs.

An actor's workers have their loads read and decoded by tasks of Ray, wherever a core is free, and get the pixels
through its object store. Each has one task under way, so that never more is decoded than is soon run.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from penult.exporters.card import Preprocessing
from penult.pipeline.cluster.nodes import equipment, require_equal, require_in_sight, telling_where
from penult.pipeline.extraction.worker import DecodedFile, Eyes, Outcome, Presence, Stopped, Worker, absent, never
from penult.pipeline.images.decode import DecodeLimits
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.views import IDENTITY
from penult.pipeline.runtime.session import Runner

RETRIES = 1
"""How often Ray does a task again whose process or node was lost; after that the actor's chunk is done again."""


class SeatedWorker(Worker):
    """A worker that has others read and decode."""

    def __init__(
        self,
        session: Runner,
        preprocessing: Preprocessing,
        dtype: str,
        limits: DecodeLimits | None = None,
        views: Sequence[str] = (IDENTITY,),
    ) -> None:
        import ray

        super().__init__(session, preprocessing, dtype, limits, views)
        self._task = ray.remote(look_there).options(num_cpus=1, max_retries=RETRIES)
        self._sight = ray.put((preprocessing, limits or DecodeLimits(), equipment()))

    def look(
        self, files: Sequence[ImageFile], is_present: Presence, is_stopped: Stopped = never
    ) -> tuple[Outcome, list[DecodedFile]]:
        """Returns what came to its end by reading and decoding, and the pixels of all others; a task is whole."""
        import ray

        try:
            outcome, decoded = ray.get(self._task.remote(self._sight, list(files)))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        # Those that decode know no store: what is there already is left out here, before it is run.
        return outcome, absent(decoded, is_present, outcome)


def look_there(sight: tuple[Preprocessing, DecodeLimits, str], files: Sequence[ImageFile]) -> Any:
    """Reads and decodes files in a process of some node."""
    *how, expected = sight
    with telling_where():
        require_equal(expected, equipment())
        require_in_sight(files)
        return _eyes(*how).look(files, lambda keys: [False] * len(keys))


@cache
def _eyes(preprocessing: Preprocessing, limits: DecodeLimits) -> Eyes:
    return Eyes(preprocessing, limits)
