"""An OpenVINO session on the CPU, with the interface of an ONNX Runtime session; it can compute in bfloat16."""

import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.cores import worker_count
from penult.errors import ProviderError
from penult.exporters.card import Precision

DEVICE = "CPU"


class OpenVinoSession:
    """A compiled graph. Several threads may call it at once; one OpenVINO thread computes each call.

    One thread per call keeps a row's value independent of the number of callers and of the batch. The precision is
    always set, because by default OpenVINO computes float32 graphs in bfloat16 on CPUs that have it.
    """

    def __init__(self, graph: bytes, precision: Precision = "fp32") -> None:
        import openvino

        self._core = openvino.Core()
        self._precision = "bf16" if precision == "bf16" else "f32"
        self._turn = threading.Lock()
        self._compiled: dict[tuple[int, ...], tuple[Any, SimpleQueue[Any]]] = {}
        try:
            self._model = self._core.read_model(graph)
        except RuntimeError as error:
            raise _unable(error) from error

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Returns the named outputs, or all outputs, for the graph's only input."""
        ((name, values),) = feeds.items()
        compiled, free = self._ready(name, values.shape)
        try:
            request = free.get_nowait()
        except Empty:
            request = compiled.create_infer_request()
        try:
            found = request.infer({name: np.ascontiguousarray(values)}, share_inputs=True)
            return [np.asarray(found[each]) for each in (range(len(found)) if names is None else names)]
        finally:
            free.put(request)

    def _ready(self, name: str, shape: tuple[int, ...]) -> tuple[Any, "SimpleQueue[Any]"]:
        """Returns the graph compiled for one input shape, and its idle requests."""
        with self._turn:
            if shape not in self._compiled:
                self._compiled[shape] = self._compile(name, shape), SimpleQueue()
            return self._compiled[shape]

    def _compile(self, name: str, shape: tuple[int, ...]) -> Any:
        model = self._model.clone()
        threads = worker_count()
        settings = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # decoders and other jobs run on the same cores
        }
        try:
            model.reshape({name: list(shape)})
            compiled = self._core.compile_model(model, DEVICE, settings)
        except RuntimeError as error:
            raise _unable(error) from error
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if precision != self._precision:
            raise ProviderError(
                f"OpenVINO computes in {precision} instead of {self._precision}",
                expected="the requested precision, because features of another precision belong to another space",
                remedy="run with --provider cpu",
            )
        return compiled


def openvino_obstacle() -> str:
    """Returns why OpenVINO cannot be used, or an empty text if no reason is known."""
    if find_spec("openvino") is None:
        return "the package openvino is not installed; pip install 'penult[openvino]'"
    return ""


def bfloat16_obstacle() -> str:
    """Returns why this CPU cannot compute in bfloat16, or an empty text if it can. OpenVINO must be installed.

    A CPU without it could emulate it, but several times slower than float32.
    """
    import openvino

    if "BF16" in openvino.Core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
        return ""
    return "this CPU has no instructions for bfloat16 (avx512_bf16 or amx_bf16)"


def _unable(error: RuntimeError) -> ProviderError:
    message = " ".join(str(error).split())
    return ProviderError(
        f"OpenVINO cannot run the graph: {message[-300:]}",
        expected="a graph whose operators OpenVINO supports",
        remedy="run with --provider cpu",
    )
