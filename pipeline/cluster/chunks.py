"""Chunks of files for actors: sized by the actor's speed, and repeated when an actor is lost.

The cause of a loss is unknown: it may be the machine or one image. So the chunk of a lost actor is split into parts,
and each part is tried alone. An image that ends several actors in a row, alone, is given up.
"""

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass

from penult.pipeline.images.image_file import ImageFile

PARTS = 8

TRIES = 3
"""How many actors an image may end, alone, before it is given up."""


@dataclass(frozen=True)
class Chunk:
    """Files for one actor; ``is_suspect`` after a loss; ``losses`` counts those with exactly these files."""

    files: list[ImageFile]
    is_suspect: bool = False
    losses: int = 0


class Chunks:
    """Combines batches into chunks on demand."""

    def __init__(self, batches: Generator[list[ImageFile]]) -> None:
        self._batches = batches
        self._again: deque[Chunk] = deque()
        self._begun: list[ImageFile] = []
        self._is_over = False
        self.is_waiting = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is left, neither new files nor files to repeat."""
        return self._is_over and not self._again and not self._begun

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do except to wait for other jobs."""
        return self.is_waiting and not self._again

    def next(self, size: int, *, is_alone: bool) -> Chunk | None:
        """Returns a chunk of at least ``size`` files, or fewer at the end, or None if there is none now.

        Chunks of lost actors come first, and only for an actor without other work. None can also mean ``is_waiting``:
        other jobs have claimed the rest, and `resume` asks again.
        """
        if self._again:
            return self._again.popleft() if is_alone else None
        files, self._begun = self._begun, []
        while len(files) < size and not self._is_over and not self.is_waiting:
            files += self._next_batch()
        return Chunk(files) if files else None

    def _next_batch(self) -> list[ImageFile]:
        batch = next(self._batches, None)
        self._is_over, self.is_waiting = batch is None, batch == []
        return batch or []

    def resume(self) -> None:
        """Asks again for files that other jobs had claimed; still waits if there are none."""
        self._begun += self._next_batch()

    def take_back(self, chunk: Chunk) -> list[ImageFile]:
        """Queues the chunk of a lost actor again, and returns the files that are given up."""
        count = len(chunk.files)
        losses = chunk.losses + 1 if chunk.is_suspect and count == 1 else 0
        if losses == TRIES:
            return chunk.files
        step = math.ceil(count / PARTS)
        parts = (chunk.files[start : start + step] for start in range(0, count, step))
        self._again.extend(Chunk(part, True, losses) for part in parts)
        return []
