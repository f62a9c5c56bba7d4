"""Opens a session on one provider and device, and sees that it really computes there."""

from collections.abc import Mapping
from typing import Any

import platformdirs

from penult.errors import ProviderError
from penult.exporters.card import Precision
from penult.pipeline.extraction.openvino_session import OpenVinoSession
from penult.pipeline.extraction.providers import EXECUTION_PROVIDERS

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
    refuse_strays(session, {EXECUTION_PROVIDERS[name] for name in (provider, "cuda") if provider != "cpu"} or {wanted})
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


def refuse_strays(session: Any, allowed: set[str]) -> None:
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
