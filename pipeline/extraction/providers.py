"""Chooses where a backbone runs, and says why: a GPU is never left unused in silence."""

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from typing import Literal, cast

from penult.errors import InputError, ProviderError
from penult.exporters.card import Precision
from penult.pipeline.extraction.openvino_session import bfloat16_obstacle, openvino_obstacle

# The names that ONNX Runtime gives to its execution providers.
EXECUTION_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

PROVIDERS = (*EXECUTION_PROVIDERS, "openvino")
"""All that can be asked for, besides ``auto``."""

NEEDS = {
    "cuda": "an NVIDIA GPU with its driver, and the package onnxruntime-gpu",
    "tensorrt": "an NVIDIA GPU with its driver, and the package onnxruntime-gpu with TensorRT",
    "openvino": "the package openvino",
}

NAMES = {"cuda": "CUDA", "tensorrt": "TensorRT", "openvino": "OpenVINO"}

TENSORRT_LIBRARIES = ("nvinfer_10.dll",) if sys.platform == "win32" else ("libnvinfer.so.10",)


@dataclass(frozen=True)
class Choice:
    """The provider that was taken and, in words, why not a better one (empty where it is the best).

    ``precision`` is that of a backbone's card: bf16 is what the provider computes in, others stand in the graph.
    """

    provider: Literal["cpu", "cuda", "tensorrt", "openvino"]
    why: str = ""
    precision: Precision = "fp32"

    @property
    def on_gpu(self) -> bool:
        """Whether the provider computes on a GPU."""
        return self.provider in ("cuda", "tensorrt")


def choose_provider(asked: str = "auto", precision: Precision = "fp32") -> Choice:
    """Returns the provider to run on: the asked one, or the best that needs no preparation for ``auto``.

    ``precision`` is that of the backbone's card.

    Raises:
        ProviderError: the asked provider cannot work here.
    """
    if asked not in ("auto", *PROVIDERS):
        raise InputError(f"The provider is {asked!r}", expected=f"one of auto, {', '.join(PROVIDERS)}")
    if precision == "bf16":
        return _choose_for_bfloat16(asked)
    if asked == "cpu":
        return Choice("cpu", precision=precision)
    if asked == "auto":
        # Tried, for the libraries of CUDA may be missing where a GPU is.
        found = cuda_obstacle() or _failure_of("cuda")
        return Choice("cpu", found, precision) if found else Choice("cuda", _why_not_tensorrt(), precision)
    found = obstacle(asked)
    if found:
        raise ProviderError(
            f"{NAMES[asked]} was asked for and cannot be used: {found}",
            expected=NEEDS[asked],
            remedy="mend that, or leave --provider out to run on what there is",
        )
    return Choice(cast("Literal['cuda', 'tensorrt', 'openvino']", asked), precision=precision)


def _choose_for_bfloat16(asked: str) -> Choice:
    """Returns OpenVINO, which alone computes in bfloat16, or says why that is not to be had."""
    found = f"{asked} does not compute in it" if asked not in ("auto", "openvino") else ""
    found = found or openvino_obstacle() or bfloat16_obstacle()
    if found:
        raise ProviderError(
            f"The backbone's features are computed in bfloat16, which cannot be done here: {found}",
            expected="OpenVINO, on a CPU that has bfloat16",
            remedy="run it there, or take the backbone that it was made of, whose features are a space of their own",
        )
    return Choice("openvino", precision="bf16")


def _why_not_tensorrt() -> str:
    return obstacle("tensorrt") or (
        "TensorRT may be faster, and takes minutes to build its engine the first time: --provider tensorrt does it"
    )


def obstacle(provider: str, *, is_tried: bool = False) -> str:
    """Returns what stands in the way of a provider in words, or nothing if nothing is known to.

    With ``is_tried``, a small graph is run on it, which finds out what only shows when its libraries are loaded.
    """
    found = openvino_obstacle() if provider == "openvino" else "" if provider == "cpu" else cuda_obstacle()
    if not found and provider == "tensorrt":
        found = _tensorrt_obstacle()
    return found or (_failure_of(provider) if is_tried else "")


def cuda_obstacle() -> str:
    """Returns what stands in the way of CUDA in words, or nothing if nothing is known to."""
    if sys.platform == "darwin":
        return "macOS has no CUDA"
    devices = count_gpus()
    if devices is None:
        return "no NVIDIA driver is installed"
    if not devices:
        return "the NVIDIA driver finds no GPU"
    import onnxruntime

    if EXECUTION_PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
        return "a GPU is here, but the installed onnxruntime is a CPU build; pip install onnxruntime-gpu"
    return ""


def _tensorrt_obstacle() -> str:
    import onnxruntime

    if EXECUTION_PROVIDERS["tensorrt"] not in onnxruntime.get_available_providers():
        return "the installed onnxruntime was built without TensorRT"
    for library in TENSORRT_LIBRARIES:
        try:
            ctypes.CDLL(library)
        except OSError:
            return f"TensorRT's library {library} is not installed; pip install tensorrt"
    return ""


def count_gpus() -> int | None:
    """Asks the driver itself how many GPUs there are, since ONNX Runtime lists CUDA wherever it was built with it."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


@cache
def _failure_of(provider: str) -> str:
    """Runs a small graph on a provider, once in a process, and returns what went wrong."""
    import numpy as np
    from onnx import TensorProto, helper

    from penult.pipeline.extraction.opening import open_session

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "a"], ["b"])], "small", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    try:
        open_session(model.SerializeToString(), provider).run(None, {"a": np.ones((1, 1), np.float32)})
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason
        reason = error.__cause__ or error
        return " ".join(str(reason).split())[:300] or type(reason).__name__
    return ""
