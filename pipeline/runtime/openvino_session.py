"""A session of OpenVINO on the CPU, asked as one of ONNX Runtime is: for its bfloat16, where the CPU has that."""

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
    """A graph that one thread of OpenVINO's computes while the calling one waits; called from several at once.

    A call never has more than one thread, so that a row's value depends neither on how many there are nor on the
    batch. The precision is always said: by itself OpenVINO computes float32 graphs in bfloat16 where the CPU has it.
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
        """Returns the outputs of these names, or all, for the one input that the graph takes."""
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
        """Returns the graph compiled for one shape of its input, and those of its requests that nobody has in hand."""
        with self._turn:
            if shape not in self._compiled:
                self._compiled[shape] = self._compile(name, shape), SimpleQueue()
            return self._compiled[shape]

    def _compile(self, name: str, shape: tuple[int, ...]) -> Any:
        model = self._model.clone()
        threads = worker_count()
        asked = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # decoders, and other jobs, run on the same cores
        }
        try:
            model.reshape({name: list(shape)})
            compiled = self._core.compile_model(model, DEVICE, asked)
        except RuntimeError as error:
            raise _unable(error) from error
        taken = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if taken != self._precision:
            raise ProviderError(
                f"OpenVINO was asked to compute in {self._precision} and computes in {taken}",
                expected="the asked precision, for features of another belong into another space",
                remedy="run with --provider cpu",
            )
        return compiled


def openvino_obstacle() -> str:
    """Returns what stands in the way of OpenVINO in words, or nothing if nothing is known to."""
    if find_spec("openvino") is None:
        return "the package openvino is not installed; pip install 'penult[openvino]'"
    return ""


def bfloat16_obstacle() -> str:
    """Returns why this CPU does not compute in bfloat16, or nothing where it does. OpenVINO must be installed.

    Others may be made to imitate it, several times as slowly as they compute in float32.
    """
    import openvino

    if "BF16" in openvino.Core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
        return ""
    return "this CPU has no instructions for bfloat16 (avx512_bf16 or amx_bf16)"


def _unable(error: RuntimeError) -> ProviderError:
    told = " ".join(str(error).split())
    return ProviderError(
        f"OpenVINO cannot run the graph: {told[-300:]}",
        expected="a graph whose operators it knows",
        remedy="run with --provider cpu",
    )
