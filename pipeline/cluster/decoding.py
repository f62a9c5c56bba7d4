"""Decoding on any node of a Ray cluster, for actors that only run the backbone, such as those of few GPUs.

An actor's workers have their batches read and decoded by tasks of Ray, wherever a core is free, and get the pixels
through its object store. Each has one task under way, so that never more is decoded than is soon run.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from penult.exporters.card import Preprocessing
from penult.pipeline.cluster.nodes import library_versions, naming_the_node, require_image_folder, require_same_versions
from penult.pipeline.extraction.worker import (
    DecodedFile,
    ImageReader,
    Outcome,
    Presence,
    Stopped,
    Worker,
    drop_present,
    never,
)
from penult.pipeline.images.decode import DecodeLimits
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.views import IDENTITY
from penult.pipeline.runtime.session import GraphRunner

RETRIES = 1
"""How often Ray does a task again whose process or node was lost; after that the actor's chunk is done again."""


class RemoteDecodingWorker(Worker):
    """A worker that has others read and decode."""

    def __init__(
        self,
        session: GraphRunner,
        preprocessing: Preprocessing,
        dtype: str,
        limits: DecodeLimits | None = None,
        views: Sequence[str] = (IDENTITY,),
    ) -> None:
        import ray

        super().__init__(session, preprocessing, dtype, limits, views)
        self._task = ray.remote(read_and_decode_task).options(num_cpus=1, max_retries=RETRIES)
        self._sight = ray.put((preprocessing, limits or DecodeLimits(), library_versions()))

    def read_and_decode(
        self, files: Sequence[ImageFile], is_present: Presence, is_stopped: Stopped = never
    ) -> tuple[Outcome, list[DecodedFile]]:
        """Returns what came to its end by reading and decoding, and the pixels of all others; a task is whole."""
        import ray

        try:
            outcome, decoded = ray.get(self._task.remote(self._sight, list(files)))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        # Those that decode know no store: what is there already is left out here, before it is run.
        return outcome, drop_present(decoded, is_present, outcome)


def read_and_decode_task(sight: tuple[Preprocessing, DecodeLimits, str], files: Sequence[ImageFile]) -> Any:
    """Reads and decodes files in a process of some node."""
    *how, expected = sight
    with naming_the_node():
        require_same_versions(expected, library_versions())
        require_image_folder(files)
        return _reader_for(*how).read_and_decode(files, lambda keys: [False] * len(keys))


@cache
def _reader_for(preprocessing: Preprocessing, limits: DecodeLimits) -> ImageReader:
    return ImageReader(preprocessing, limits)
