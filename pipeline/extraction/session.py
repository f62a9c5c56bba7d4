"""Runs a backbone: a batch of pixels in, one matrix a tap out, on the provider that was chosen and no other."""

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from penult.errors import ProviderError
from penult.exporters.backbone import Backbone
from penult.pipeline.extraction.providers import EXECUTION_PROVIDERS, Choice, choose_provider

# How many images a run takes. On a CPU larger batches only leave the caches; on a GPU smaller ones leave it idle.
BATCH_SIZES = {"cpu": 4, "cuda": 64}


class Runner:
    """A graph from pixels to named outputs, loaded and ready; `run` may be called from several threads at once.

    On the CPU each call computes on the calling thread alone, so that as many callers as cores keep every core busy
    and a row's value does not depend on how many there are. On a GPU every batch is padded to one size, because a new
    shape makes the search for convolution algorithms run again, and one batch runs at a time.
    """

    def __init__(self, graph: bytes, outputs: Sequence[str], choice: Choice, *, batch_size: int | None = None) -> None:
        self.outputs = tuple(outputs)
        self.choice = choice
        self.batch_size = batch_size or BATCH_SIZES[choice.provider]
        self._session = _open_session(graph, choice)
        on_gpu = choice.provider != "cpu"
        self._pads = on_gpu
        self._turn: AbstractContextManager[object] = threading.Lock() if on_gpu else nullcontext()

    def run(self, pixels: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        """Returns for each output the matrix (N, width) of the images ``pixels`` (N, H, W, 3), N at most anything."""
        parts = [
            self._run_batch(pixels[start : start + self.batch_size]) for start in range(0, len(pixels), self.batch_size)
        ]
        return {name: np.concatenate(matrices) for name, *matrices in zip(self.outputs, *parts, strict=True)}

    def _run_batch(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        count = len(pixels)
        if self._pads and count < self.batch_size:
            padding = np.zeros((self.batch_size - count, *pixels.shape[1:]), np.uint8)
            pixels = np.concatenate([pixels, padding])
        with self._turn:
            matrices = self._session.run(list(self.outputs), {"pixels": pixels})
        return [matrix[:count] for matrix in matrices]


class Session(Runner):
    """A backbone that runs, checked against the reference vectors of its card before its first use."""

    def __init__(
        self, backbone: Backbone, outputs: Sequence[str], *, provider: str = "auto", batch_size: int | None = None
    ) -> None:
        super().__init__(backbone.serialized(outputs), outputs, choose_provider(provider), batch_size=batch_size)
        self._check(backbone)

    def _check(self, backbone: Backbone) -> None:
        """Refuses to go on where this machine gives other features than the card's reference vectors."""
        reduced = self.choice.provider == "cuda" and backbone.card.precision == "fp32"  # CUDA computes in TF32
        backbone.check_reference(self.run(backbone.reference_batch()), tolerance="tf32" if reduced else None)


def _open_session(model: bytes, choice: Choice):  # type: ignore[no-untyped-def]  # noqa: ANN202 - onnxruntime is untyped
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    if choice.provider == "cuda":
        onnxruntime.preload_dlls()
    wanted = EXECUTION_PROVIDERS[choice.provider]
    session = onnxruntime.InferenceSession(model, options, providers=[wanted])
    if session.get_providers()[0] != wanted:
        raise ProviderError(
            f"ONNX Runtime was asked for {wanted} and took {session.get_providers()[0]}",
            expected="the CUDA and cuDNN libraries that this onnxruntime-gpu was built for",
            remedy="pip install 'onnxruntime-gpu[cuda,cudnn]', or run with --provider cpu",
        )
    return session


def worker_count() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
