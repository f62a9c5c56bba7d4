"""Chooses where a backbone runs, and says why: a GPU is never left unused in silence."""

import ctypes
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

import platformdirs

from penult.errors import InputError, ProviderError
from penult.exporters.card import Precision
from penult.pipeline.runtime.openvino_session import OpenVinoSession, bfloat16_obstacle, openvino_obstacle

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
class ProviderChoice:
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


def choose_provider(asked: str = "auto", precision: Precision = "fp32") -> ProviderChoice:
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
        return ProviderChoice("cpu", precision=precision)
    if asked == "auto":
        # Tried, for the libraries of CUDA may be missing where a GPU is.
        found = cuda_obstacle() or _failure_of("cuda")
        return (
            ProviderChoice("cpu", found, precision) if found else ProviderChoice("cuda", _why_not_tensorrt(), precision)
        )
    found = obstacle(asked)
    if found:
        raise ProviderError(
            f"{NAMES[asked]} was asked for and cannot be used: {found}",
            expected=NEEDS[asked],
            remedy="mend that, or leave --provider out to run on what there is",
        )
    return ProviderChoice(cast("Literal['cuda', 'tensorrt', 'openvino']", asked), precision=precision)


def _choose_for_bfloat16(asked: str) -> ProviderChoice:
    """Returns OpenVINO, which alone computes in bfloat16, or says why that is not to be had."""
    found = f"{asked} does not compute in it" if asked not in ("auto", "openvino") else ""
    found = found or openvino_obstacle() or bfloat16_obstacle()
    if found:
        raise ProviderError(
            f"The backbone's features are computed in bfloat16, which cannot be done here: {found}",
            expected="OpenVINO, on a CPU that has bfloat16",
            remedy="run it there, or take the backbone that it was made of, whose features are a space of their own",
        )
    return ProviderChoice("openvino", precision="bf16")


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

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "a"], ["b"])], "small", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    try:
        open_session(model.SerializeToString(), provider).run(None, {"a": np.ones((1, 1), np.float32)})
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason
        reason = error.__cause__ or error
        return " ".join(str(reason).split())[:300] or type(reason).__name__
    return ""


# The operators that make up a network's work. Others may stay on the CPU, where ONNX Runtime puts them on purpose.
HEAVY = frozenset({"Conv", "ConvTranspose", "FusedConv", "Gemm", "MatMul", "FusedMatMul"})


def open_session(graph: bytes, provider: str, device: int = 0, precision: Precision = "fp32"):  # type: ignore[no-untyped-def]  # noqa: ANN201 - onnxruntime is untyped
    """Returns a session that computes each call on one thread (CPU) or on one device.

    Raises:
        ProviderError: ONNX Runtime took another provider, for the whole or for a part of the work.
    """
    if provider == "openvino":
        return OpenVinoSession(graph, precision)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if provider != "cpu":
        onnxruntime.preload_dlls()
    wanted = EXECUTION_PROVIDERS[provider]
    asked = provider_list(provider, device, precision)
    try:
        # By itself it goes on with a lesser provider where one fails, now or in any later run.
        session = onnxruntime.InferenceSession(graph, options, providers=asked, enable_fallback=False)
        session.disable_fallback()
    except Exception as error:
        raise failure(provider, error) from error
    if session.get_providers()[0] != wanted:
        raise ProviderError(
            f"ONNX Runtime was asked for {wanted} and took {session.get_providers()[0]}",
            expected="the CUDA and cuDNN libraries that this onnxruntime-gpu was built for",
            remedy="pip install 'onnxruntime-gpu[cuda,cudnn]', or run with --provider cpu",
        )
    require_no_fallback(
        session, {EXECUTION_PROVIDERS[name] for name in (provider, "cuda") if provider != "cpu"} or {wanted}
    )
    return session


def failure(provider: str, error: Exception) -> ProviderError:
    """Returns the error for what a session raises: the classes of ONNX Runtime's have only Exception in common."""
    if isinstance(error, ProviderError):
        return error
    told = " ".join(str(error).split()) or type(error).__name__
    return ProviderError(
        f"The network fails on {provider}: {told[:500]}",
        expected="a network that runs there, and memory enough for it",
        remedy="try a smaller --batch-size, or another --provider; 'penult doctor' tells what can be used",
    )


def provider_list(provider: str, device: int, precision: Precision = "fp32") -> list[tuple[str, Mapping[str, Any]]]:
    """Returns what ONNX Runtime is asked for, the best first.

    On CUDA the search for convolution algorithms is exhaustive, which times all of them: batches have one shape, so it
    is made once. TensorRT is told of a graph in float16, whose numbers it would not take otherwise.
    """
    cuda = (
        EXECUTION_PROVIDERS["cuda"],
        {"device_id": str(device), "cudnn_conv_algo_search": "EXHAUSTIVE", "cudnn_conv_use_max_workspace": "1"},
    )
    if provider == "cuda":
        return [cuda]
    if provider == "tensorrt":
        cache = platformdirs.user_cache_path("penult") / "tensorrt"
        cache.mkdir(parents=True, exist_ok=True)
        kept = {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(cache),
            "trt_fp16_enable": str(precision == "fp16"),
        }
        return [(EXECUTION_PROVIDERS["tensorrt"], {"device_id": str(device), **kept}), cuda]
    return [(EXECUTION_PROVIDERS["cpu"], {})]


def require_no_fallback(session: Any, allowed: set[str]) -> None:
    """Raises ProviderError where some of a network's work was given to another provider than the allowed ones."""
    if not hasattr(session, "get_provider_graph_assignment_info"):  # ONNX Runtime before 1.24 does not tell
        return
    strays = [
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name not in allowed
        for node in part.get_nodes()
        if node.op_type in HEAVY
    ]
    if strays:
        raise ProviderError(
            f"ONNX Runtime left {len(strays)} operators such as {strays[0]} to another provider",
            expected=f"all of the network's work on {' or '.join(sorted(allowed))}",
            remedy="run with --provider cpu, or export the backbone again with a newer onnxruntime",
        )
