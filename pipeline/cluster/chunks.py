"""Chunks: what an actor is given at once, cut to its speed; and those whose actor was lost, which are done again.

What ends an actor is not known: the machine, or one image. So a chunk that an actor was lost with is cut into parts,
and each is tried with nothing beside it. An image that ends one actor after the other, alone, is given up.
"""

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass

from penult.pipeline.images.image_file import ImageFile

PARTS = 8

TRIES = 3
"""How many actors may be lost with an image alone."""


@dataclass(frozen=True)
class Chunk:
    """Files for one actor; suspect where one was lost with them, and how many were lost with just these."""

    files: list[ImageFile]
    is_suspect: bool = False
    losses: int = 0


class Chunks:
    """Cuts batches into chunks as they are asked for."""

    def __init__(self, batches: Generator[list[ImageFile]]) -> None:
        self._batches = batches
        self._again: deque[Chunk] = deque()
        self._begun: list[ImageFile] = []
        self._is_over = False
        self.is_waiting = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is left, neither new nor to be done again."""
        return self._is_over and not self._again and not self._begun

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do but to wait for other jobs."""
        return self.is_waiting and not self._again

    def next(self, size: int, *, is_alone: bool) -> Chunk | None:
        """Returns a chunk of at least ``size`` files where there are so many, or None where there is none for now.

        What an actor was lost with goes first, and only to one that has nothing else. None may also mean
        ``is_waiting``: what is left is in the hands of other jobs, and `resume` asks again.
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
        """Asks again for what other jobs had in hand; it still waits if there is nothing of it now."""
        self._begun += self._next_batch()

    def take_back(self, chunk: Chunk) -> list[ImageFile]:
        """Has a chunk done again whose actor was lost, and returns the files that are given up."""
        count = len(chunk.files)
        losses = chunk.losses + 1 if chunk.is_suspect and count == 1 else 0
        if losses == TRIES:
            return chunk.files
        step = math.ceil(count / PARTS)
        parts = (chunk.files[start : start + step] for start in range(0, count, step))
        self._again.extend(Chunk(part, True, losses) for part in parts)
        return []
