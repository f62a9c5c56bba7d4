"""Runs a backbone on the chosen provider: a batch of pixels in, one matrix per tap out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.exporters.backbone import Backbone
from penult.pipeline.runtime.providers import ProviderChoice, choose_provider, count_gpus, open_session, run_error

__all__ = ["BATCH_SIZES", "GraphRunner", "Session"]

# Images per batch. On a CPU, larger batches no longer fit into its caches. On a GPU, smaller ones leave it idle.
BATCH_SIZES = {"cpu": 4, "openvino": 1, "cuda": 64, "tensorrt": 64}

# Sessions per GPU: while one computes, the pixels of the other are copied.
SESSIONS_PER_GPU = 2


class GraphRunner:
    """A loaded graph from pixels to named outputs; several threads may call `run` at once.

    On the CPU, each call computes on one thread: as many callers as cores keep every core busy, and a row's value does
    not depend on their number. On GPUs (all that are visible) and for OpenVINO, every batch is padded to one size,
    because a new shape repeats the search for convolution algorithms or the compilation. Each GPU has two sessions, and
    a batch takes the next free one.
    """

    def __init__(
        self, graph: bytes, outputs: Sequence[str], choice: ProviderChoice, *, batch_size: int | None = None
    ) -> None:
        self.outputs = tuple(outputs)
        self.choice = choice
        self.batch_size = batch_size or BATCH_SIZES[choice.provider]
        self._is_padded = choice.provider != "cpu"
        devices = range((count_gpus() or 1) if choice.on_gpu else 1)
        # The first session of each device comes before all second ones, so that few batches use all devices.
        rounds = SESSIONS_PER_GPU if choice.on_gpu else 1
        self._sessions = [
            open_session(graph, choice.provider, device, choice.precision) for _ in range(rounds) for device in devices
        ]
        self._free: SimpleQueue[Any] = SimpleQueue()
        for session in self._sessions:
            self._free.put(session)

    def run(self, pixels: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        """Returns the matrix (N, width) of each output for the images ``pixels`` (N, H, W, 3), for any N."""
        with self._free_session() as session:
            return self._run_on(session, pixels)

    def run_on_each(self, pixels: NDArray[np.uint8]) -> Iterator[Mapping[str, NDArray[np.float32]]]:
        """Yields the outputs of each session for one batch, which also initialises all sessions."""
        for session in self._sessions:
            yield self._run_on(session, pixels)

    @contextmanager
    def _free_session(self) -> Iterator[Any]:
        """Reserves a session of a GPU; the only session of a CPU serves any number of callers at once."""
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
            raise run_error(self.choice.provider, error) from error
        return [matrix[:count] for matrix in matrices]


class Session(GraphRunner):
    """A loaded backbone, checked against the reference vectors of its card before its first use."""

    def __init__(
        self, backbone: Backbone, outputs: Sequence[str], *, provider: str = "auto", batch_size: int | None = None
    ) -> None:
        choice = choose_provider(provider, backbone.card.precision)
        super().__init__(backbone.serialized(outputs), outputs, choice, batch_size=batch_size)
        self._check(backbone)

    def _check(self, backbone: Backbone) -> None:
        """Raises an error if this machine's features differ from the card's reference vectors."""
        is_tf32 = self.choice.on_gpu and backbone.card.precision == "fp32"  # CUDA computes in TF32
        for outputs in self.run_on_each(backbone.reference_batch()):
            backbone.check_reference(outputs, tolerance="tf32" if is_tf32 else None)
