"""Runs a backbone on the chosen provider: a batch of pixels in, one matrix per tap out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.exporters.backbone import Backbone
from penult.pipeline.runtime.providers import ProviderChoice, choose_provider, count_gpus, failure, open_session

__all__ = ["BATCH_SIZES", "GraphRunner", "Session"]

# Images per batch. On a CPU larger batches exceed the caches; on a GPU smaller ones leave it idle.
BATCH_SIZES = {"cpu": 4, "openvino": 1, "cuda": 64, "tensorrt": 64}

# Sessions per GPU: while one computes, the pixels of the other are copied.
LANES_PER_GPU = 2


class GraphRunner:
    """Runs a graph from pixels to named outputs; thread-safe.

    On the CPU each call uses one thread, so a row does not depend on the number of callers. On GPUs (all visible ones
    are used) and with OpenVINO every batch is padded to one size, because a new shape repeats the search for
    convolution algorithms or the compilation. Each GPU has two sessions, and a batch takes the next free one.
    """

    def __init__(
        self, graph: bytes, outputs: Sequence[str], choice: ProviderChoice, *, batch_size: int | None = None
    ) -> None:
        self.outputs = tuple(outputs)
        self.choice = choice
        self.batch_size = batch_size or BATCH_SIZES[choice.provider]
        self._is_padded = choice.provider != "cpu"
        devices = range((count_gpus() or 1) if choice.on_gpu else 1)
        # One session of each device first, so that few batches spread over all devices.
        turns = LANES_PER_GPU if choice.on_gpu else 1
        self._sessions = [
            open_session(graph, choice.provider, device, choice.precision) for _ in range(turns) for device in devices
        ]
        self._free: SimpleQueue[Any] = SimpleQueue()
        for session in self._sessions:
            self._free.put(session)

    def run(self, pixels: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        """Returns for each output the matrix (N, width) for ``pixels`` (N, H, W, 3) of any N."""
        with self._lane() as session:
            return self._run_on(session, pixels)

    def run_on_each(self, pixels: NDArray[np.uint8]) -> Iterator[Mapping[str, NDArray[np.float32]]]:
        """Yields the result of each session for one batch, which also warms up all sessions."""
        for session in self._sessions:
            yield self._run_on(session, pixels)

    @contextmanager
    def _lane(self) -> Iterator[Any]:
        """Reserves a session; the CPU session serves any number of callers."""
        if not self.choice.on_gpu:
            yield self._sessions[0]
            return
        session = self._free.get()
        try:
            yield session
        finally:
            self._free.put(session)

    def _run_on(self, session: Any, pixels: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        parts = [
            self._run_batch(session, pixels[start : start + self.batch_size])
            for start in range(0, len(pixels), self.batch_size)
        ]
        return {name: np.concatenate(matrices) for name, *matrices in zip(self.outputs, *parts, strict=True)}

    def _run_batch(self, session: Any, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        count = len(pixels)
        if self._is_padded and count < self.batch_size:
            padding = np.zeros((self.batch_size - count, *pixels.shape[1:]), np.uint8)
            pixels = np.concatenate([pixels, padding])
        try:
            matrices = session.run(list(self.outputs), {"pixels": pixels})
        except Exception as error:
            raise failure(self.choice.provider, error) from error
        return [matrix[:count] for matrix in matrices]


class Session(GraphRunner):
    """Runs a backbone; construction checks it against the reference vectors of its card."""

    def __init__(
        self, backbone: Backbone, outputs: Sequence[str], *, provider: str = "auto", batch_size: int | None = None
    ) -> None:
        choice = choose_provider(provider, backbone.card.precision)
        super().__init__(backbone.serialized(outputs), outputs, choice, batch_size=batch_size)
        self._check(backbone)

    def _check(self, backbone: Backbone) -> None:
        """Raises an error if this machine computes other features than the reference vectors of the card."""
        reduced = self.choice.on_gpu and backbone.card.precision == "fp32"  # CUDA computes in TF32
        for given in self.run_on_each(backbone.reference_batch()):
            backbone.check_reference(given, tolerance="tf32" if reduced else None)
