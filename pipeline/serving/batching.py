"""Dynamic batching: the images of many requests share batches.

No image waits for a batch to fill. A free worker takes the images that are waiting, so an idle server answers at once,
and a busy server computes full batches.
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

from penult.cores import worker_count
from penult.errors import ImageError
from penult.pipeline.images.decode import FORMATS, DecodeLimits
from penult.pipeline.images.decoder_pool import DecoderPool
from penult.pipeline.serving.classifiers import PixelClassifier
from penult.pipeline.serving.limits import Limits
from penult.pipeline.serving.metrics import ServerMetrics

__all__ = ["Batcher"]

_QueueItem = tuple[NDArray[np.uint8], "asyncio.Future[NDArray[np.floating]]"]


class Batcher:
    """Decodes and classifies images, as an async context manager; `classify` may be awaited concurrently."""

    def __init__(self, classifier: PixelClassifier, limits: Limits, metrics: ServerMetrics) -> None:
        self._classifier, self._limits, self._metrics = classifier, limits, metrics
        # On a CPU each batch uses one core; on a GPU the next batch is prepared while one is computed.
        self._workers = worker_count() if classifier.runner.choice.provider == "cpu" else 2
        self._queue: asyncio.Queue[_QueueItem] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._decoders = DecoderPool(self._classifier.preprocessing, DecodeLimits(seconds=self._limits.decode_seconds))
        self._decode_threads = ThreadPoolExecutor(worker_count(), thread_name_prefix="penult-decode")
        self._run_threads = ThreadPoolExecutor(self._workers, thread_name_prefix="penult-run")
        await asyncio.gather(self.classify(b""), self._in(self._run_threads, self._warm_up))
        self._tasks = [asyncio.create_task(self._run_batches()) for _ in range(self._workers)]
        return self

    async def __aexit__(self, *reason: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in (self._decode_threads, self._run_threads):
            pool.shutdown(cancel_futures=True)
        self._decoders.close()

    async def classify(self, data: bytes) -> NDArray[np.floating] | str:
        """Returns the probabilities (C) for the bytes of an image file, or the reason why there are none."""
        try:
            pixels = await self._in(self._decode_threads, self._decoded, data)
        except ImageError as error:
            return str(error)
        row: asyncio.Future[NDArray[np.floating]] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((pixels, row))
        found = await row
        return found if np.isfinite(found).all() else "the model returned probabilities that are not finite"

    async def _run_batches(self) -> None:
        while True:
            batch = [await self._queue.get()]
            with suppress(asyncio.QueueEmpty):
                while len(batch) < self._classifier.runner.batch_size:
                    batch.append(self._queue.get_nowait())
            self._metrics.batch.observe(len(batch))
            waiting = [row for _, row in batch]
            try:
                pixels = np.stack([image for image, _ in batch])
                found = list(await self._in(self._run_threads, self._classifier, pixels))
            except Exception as error:  # noqa: BLE001 - every waiting request must receive the error
                found = [error] * len(waiting)
            _set_results(waiting, found)

    def _decoded(self, data: bytes) -> NDArray[np.uint8]:
        (width, height), most = _size(data), self._limits.pixels
        if width * height > most:
            raise ImageError(f"the image is too large: {width} x {height} pixels; the limit is {most:,} pixels")
        return self._decoders.decode(data)

    def _warm_up(self) -> None:
        """Runs a first batch before the first request, because it takes many times as long as later ones."""
        self._classifier(np.zeros((1, *self._classifier.preprocessing.crop, 3), np.uint8))

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, function, *values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN205 - any call
        return await asyncio.get_running_loop().run_in_executor(pool, function, *values)


def _set_results(
    waiting: Sequence["asyncio.Future[NDArray[np.floating]]"], found: Sequence[NDArray[np.floating] | Exception]
) -> None:
    for row, result in zip(waiting, found, strict=True):
        if row.done():  # the request was cancelled
            continue
        if isinstance(result, Exception):
            row.set_exception(result)
        else:
            row.set_result(result)


def _size(data: bytes) -> tuple[int, int]:
    """Returns the size from the file's header; (0, 0) for a broken header, which the decoder reports."""
    with suppress(Exception), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return image.size
    return 0, 0
