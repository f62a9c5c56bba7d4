"""Puts the images of many requests into common batches.

Nothing waits for a batch to fill: whoever is free takes what has come meanwhile, so that an idle server answers at
once and a busy one computes in full batches.
"""

import asyncio
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from penult.errors import ImageError
from penult.pipeline.images.decode import FORMATS, DecodeLimits
from penult.pipeline.images.decoder_pool import DecoderPool
from penult.pipeline.runtime.session import worker_count
from penult.pipeline.serving.classifiers import Classifier
from penult.pipeline.serving.limits import Limits
from penult.pipeline.serving.metrics import Metrics

__all__ = ["Batcher"]

_Waiting = tuple[NDArray[np.uint8], "asyncio.Future[NDArray[np.floating]]"]


class Batcher:
    """Decodes and classifies images while it is entered; `classify` may be awaited by many at once."""

    def __init__(self, classifier: Classifier, limits: Limits, metrics: Metrics) -> None:
        self._classifier, self._limits, self._metrics = classifier, limits, metrics
        # On a CPU a batch keeps one core busy; on a GPU the next one is made ready while one is computed.
        self._lanes = worker_count() if classifier.runner.choice.provider == "cpu" else 2
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._decoders = DecoderPool(self._classifier.preprocessing, DecodeLimits(seconds=self._limits.decode_seconds))
        self._askers = ThreadPoolExecutor(worker_count(), thread_name_prefix="penult-decode")
        self._runners = ThreadPoolExecutor(self._lanes, thread_name_prefix="penult-run")
        await asyncio.gather(self.classify(b""), self._in(self._runners, self._warm_up))
        self._tasks = [asyncio.create_task(self._take_turns()) for _ in range(self._lanes)]
        return self

    async def __aexit__(self, *reason: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in (self._askers, self._runners):
            pool.shutdown(cancel_futures=True)
        self._decoders.close()

    async def classify(self, data: bytes) -> NDArray[np.floating] | str:
        """Returns the probabilities (C) of an image file's bytes, or why there are none."""
        try:
            pixels = await self._in(self._askers, self._decoded, data)
        except ImageError as error:
            return str(error)
        row: asyncio.Future[NDArray[np.floating]] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((pixels, row))
        found = await row
        return found if np.isfinite(found).all() else "the model gives no finite probabilities for it"

    async def _take_turns(self) -> None:
        while True:
            batch = [await self._queue.get()]
            with suppress(asyncio.QueueEmpty):
                while len(batch) < self._classifier.runner.batch_size:
                    batch.append(self._queue.get_nowait())
            self._metrics.batch.observe(len(batch))
            waiting = [row for _, row in batch]
            try:
                pixels = np.stack([image for image, _ in batch])
                found = list(await self._in(self._runners, self._classifier, pixels))
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait for this batch must hear of it
                found = [error] * len(waiting)
            _answer(waiting, found)

    def _decoded(self, data: bytes) -> NDArray[np.uint8]:
        (width, height), most = _size(data), self._limits.pixels
        if width * height > most:
            raise ImageError(f"the image is too large: {width} x {height} pixels, and {most:,} is the most here")
        return self._decoders.decode(data)

    def _warm_up(self) -> None:
        """Runs a first batch, which takes many times as long as the others, before anybody waits for it."""
        self._classifier(np.zeros((1, *self._classifier.preprocessing.crop, 3), np.uint8))

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, function, *values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN205 - any call
        return await asyncio.get_running_loop().run_in_executor(pool, function, *values)


def _answer(
    waiting: Sequence["asyncio.Future[NDArray[np.floating]]"], found: Sequence[NDArray[np.floating] | Exception]
) -> None:
    for row, answer in zip(waiting, found, strict=True):
        if row.done():  # whoever asked has been cancelled meanwhile
            continue
        if isinstance(answer, Exception):
            row.set_exception(answer)
        else:
            row.set_result(answer)


def _size(data: bytes) -> tuple[int, int]:
    """Returns what the file's head says of its size, and nothing where the decoder will say what is wrong with it."""
    with suppress(Exception), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return image.size
    return 0, 0
