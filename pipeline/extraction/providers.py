"""Chooses where a backbone runs, and says why: a GPU is never left unused in silence."""

import ctypes
import sys
from dataclasses import dataclass
from typing import Literal

from penult.errors import InputError, ProviderError

Provider = Literal["auto", "cpu", "cuda"]

# The names that ONNX Runtime gives to its execution providers.
EXECUTION_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class Choice:
    """The provider that was taken and, in words, why not a better one (empty where it is the best)."""

    provider: Literal["cpu", "cuda"]
    why: str = ""


def choose_provider(asked: str = "auto") -> Choice:
    """Returns the provider to run on: the asked one, or the fastest that this machine has for ``auto``.

    Raises:
        ProviderError: the asked provider cannot work here.
    """
    if asked not in ("auto", *EXECUTION_PROVIDERS):
        raise InputError(f"The provider is {asked!r}", expected=f"one of auto, {', '.join(EXECUTION_PROVIDERS)}")
    if asked == "cpu":
        return Choice("cpu")
    obstacle = cuda_obstacle()
    if not obstacle:
        return Choice("cuda")
    if asked == "cuda":
        raise ProviderError(
            f"CUDA was asked for and cannot be used: {obstacle}",
            expected="an NVIDIA GPU with its driver, and the package onnxruntime-gpu",
            remedy="mend that, or leave --provider out to run on the CPU",
        )
    return Choice("cpu", obstacle)


def cuda_obstacle() -> str:
    """Returns what stands in the way of CUDA in words, or nothing if nothing is known to."""
    if sys.platform == "darwin":
        return "macOS has no CUDA"
    devices = _count_cuda_devices()
    if devices is None:
        return "no NVIDIA driver is installed"
    if not devices:
        return "the NVIDIA driver finds no GPU"
    import onnxruntime

    if EXECUTION_PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
        return "a GPU is here, but the installed onnxruntime is a CPU build; pip install onnxruntime-gpu"
    return ""


def _count_cuda_devices() -> int | None:
    """Asks the driver itself, since ONNX Runtime lists CUDA wherever it was built with it."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value
