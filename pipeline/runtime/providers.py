"""Chooses the provider that runs a backbone, and reports why a faster one, such as a GPU, is not used."""

import ctypes
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

import platformdirs

from penult.defaults import PROVIDERS
from penult.errors import InputError, ProviderError
from penult.exporters.card import Precision
from penult.pipeline.runtime.openvino_session import OpenVinoSession, bfloat16_obstacle, openvino_obstacle

# The names of the execution providers in ONNX Runtime.
EXECUTION_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

NEEDS = {
    "cuda": "an NVIDIA GPU with its driver, and the package onnxruntime-gpu",
    "tensorrt": "an NVIDIA GPU with its driver, and the package onnxruntime-gpu with TensorRT",
    "openvino": "the package openvino",
}

NAMES = {"cuda": "CUDA", "tensorrt": "TensorRT", "openvino": "OpenVINO"}

TENSORRT_LIBRARIES = ("nvinfer_10.dll",) if sys.platform == "win32" else ("libnvinfer.so.10",)


@dataclass(frozen=True)
class ProviderChoice:
    """The provider in use, and ``why`` no faster one is in use (empty if it is the fastest).

    ``precision`` is that of the backbone's card. The provider computes in bf16; other precisions are in the graph.
    """

    provider: Literal["cpu", "cuda", "tensorrt", "openvino"]
    why: str = ""
    precision: Precision = "fp32"

    @property
    def on_gpu(self) -> bool:
        """Whether the provider computes on a GPU."""
        return self.provider in ("cuda", "tensorrt")


def choose_provider(requested: str = "auto", precision: Precision = "fp32") -> ProviderChoice:
    """Returns the requested provider, or for ``auto`` the fastest one that needs no preparation.

    ``precision`` is that of the backbone's card.

    Raises:
        ProviderError: the requested provider cannot run here.
    """
    if requested not in ("auto", *PROVIDERS):
        raise InputError(f"The provider is {requested!r}", expected=f"one of auto, {', '.join(PROVIDERS)}")
    if precision == "bf16":
        return _choose_for_bfloat16(requested)
    if requested == "cpu":
        return ProviderChoice("cpu", precision=precision)
    if requested == "auto":
        # A test run, because the CUDA libraries may be missing on a machine with a GPU.
        found = cuda_obstacle() or _failure_of("cuda")
        return (
            ProviderChoice("cpu", found, precision) if found else ProviderChoice("cuda", _why_not_tensorrt(), precision)
        )
    found = obstacle(requested)
    if found:
        raise ProviderError(
            f"{NAMES[requested]} cannot be used: {found}",
            expected=NEEDS[requested],
            remedy="fix that, or omit --provider to use the best available provider",
        )
    return ProviderChoice(cast("Literal['cuda', 'tensorrt', 'openvino']", requested), precision=precision)


def _choose_for_bfloat16(requested: str) -> ProviderChoice:
    """Returns OpenVINO, the only provider that computes in bfloat16, or raises an error that says why it cannot."""
    found = f"{requested} does not compute in it" if requested not in ("auto", "openvino") else ""
    found = found or openvino_obstacle() or bfloat16_obstacle()
    if found:
        raise ProviderError(
            f"The backbone computes in bfloat16, which is not possible here: {found}",
            expected="OpenVINO, on a CPU that has bfloat16",
            remedy="run it there, or use the backbone that it was made from, whose features form another space",
        )
    return ProviderChoice("openvino", precision="bf16")


def _why_not_tensorrt() -> str:
    return obstacle("tensorrt") or (
        "TensorRT may be faster, but builds its engine for minutes at first use; --provider tensorrt selects it"
    )


def obstacle(provider: str, *, is_tried: bool = False) -> str:
    """Returns why a provider cannot be used, or an empty text if no reason is known.

    With ``is_tried``, a small graph runs on it, which finds problems that only appear when its libraries are loaded.
    """
    found = openvino_obstacle() if provider == "openvino" else "" if provider == "cpu" else cuda_obstacle()
    if not found and provider == "tensorrt":
        found = _tensorrt_obstacle()
    return found or (_failure_of(provider) if is_tried else "")


def cuda_obstacle() -> str:
    """Returns why CUDA cannot be used, or an empty text if no reason is known."""
    if sys.platform == "darwin":
        return "macOS has no CUDA"
    devices = count_gpus()
    if devices is None:
        return "no NVIDIA driver is installed"
    if not devices:
        return "the NVIDIA driver finds no GPU"
    import onnxruntime

    if EXECUTION_PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
        return "there is a GPU, but the installed onnxruntime is a CPU build; pip install onnxruntime-gpu"
    return ""


def _tensorrt_obstacle() -> str:
    import onnxruntime

    if EXECUTION_PROVIDERS["tensorrt"] not in onnxruntime.get_available_providers():
        return "the installed onnxruntime has no TensorRT"
    for library in TENSORRT_LIBRARIES:
        try:
            ctypes.CDLL(library)
        except OSError:
            return f"TensorRT's library {library} is not installed; pip install tensorrt"
    return ""


def count_gpus() -> int | None:
    """Returns the driver's number of GPUs, or None without a driver. ONNX Runtime lists CUDA even without a GPU."""
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
    """Runs a small graph on a provider, once per process, and returns the error message."""
    import numpy as np
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "a"], ["b"])], "small", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    try:
        open_session(model.SerializeToString(), provider).run(None, {"a": np.ones((1, 1), np.float32)})
    except Exception as error:  # noqa: BLE001 - any error is the reason
        reason = error.__cause__ or error
        return " ".join(str(reason).split())[:300] or type(reason).__name__
    return ""


# The operators that take most of a network's time. ONNX Runtime may place others on the CPU on purpose.
HEAVY = frozenset({"Conv", "ConvTranspose", "FusedConv", "Gemm", "MatMul", "FusedMatMul"})


def open_session(graph: bytes, provider: str, device: int = 0, precision: Precision = "fp32"):  # type: ignore[no-untyped-def]  # noqa: ANN201 - onnxruntime is untyped
    """Returns a session that computes each call on one thread (CPU) or on one device.

    Raises:
        ProviderError: ONNX Runtime uses another provider for the graph or for a part of it.
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
    providers = provider_list(provider, device, precision)
    try:
        # By default, ONNX Runtime falls back to a slower provider after any failure.
        session = onnxruntime.InferenceSession(graph, options, providers=providers, enable_fallback=False)
        session.disable_fallback()
    except Exception as error:
        raise run_error(provider, error) from error
    if session.get_providers()[0] != wanted:
        raise ProviderError(
            f"ONNX Runtime uses {session.get_providers()[0]} instead of {wanted}",
            expected="the CUDA and cuDNN libraries that this onnxruntime-gpu was built for",
            remedy="pip install 'onnxruntime-gpu[cuda,cudnn]', or run with --provider cpu",
        )
    check_placement(
        session, {EXECUTION_PROVIDERS[name] for name in (provider, "cuda") if provider != "cpu"} or {wanted}
    )
    return session


def run_error(provider: str, error: Exception) -> ProviderError:
    """Returns the error to raise for one of ONNX Runtime's, whose classes share only Exception."""
    if isinstance(error, ProviderError):
        return error
    message = " ".join(str(error).split()) or type(error).__name__
    return ProviderError(
        f"The network fails on {provider}: {message[:500]}",
        expected="a network that this provider can run, and enough memory",
        remedy="try a smaller --batch-size, or another --provider; 'penult doctor' lists what can be used",
    )


def provider_list(provider: str, device: int, precision: Precision = "fp32") -> list[tuple[str, Mapping[str, Any]]]:
    """Returns the execution providers and their options for ONNX Runtime, the best first.

    CUDA measures all convolution algorithms. All batches have one shape, so this happens once. TensorRT needs an option
    to accept a graph in float16.
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
        settings = {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(cache),
            "trt_fp16_enable": str(precision == "fp16"),
        }
        return [(EXECUTION_PROVIDERS["tensorrt"], {"device_id": str(device), **settings}), cuda]
    return [(EXECUTION_PROVIDERS["cpu"], {})]


def check_placement(session: Any, allowed: set[str]) -> None:
    """Raises ProviderError if heavy operators are placed on a provider that is not ``allowed``."""
    if not hasattr(session, "get_provider_graph_assignment_info"):  # ONNX Runtime before 1.24 does not report it
        return
    misplaced = [
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name not in allowed
        for node in part.get_nodes()
        if node.op_type in HEAVY
    ]
    if misplaced:
        raise ProviderError(
            f"ONNX Runtime placed {len(misplaced)} operators such as {misplaced[0]} on another provider",
            expected=f"all heavy operators on {' or '.join(sorted(allowed))}",
            remedy="run with --provider cpu, or export the backbone again with a newer onnxruntime",
        )
