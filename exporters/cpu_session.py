"""Runs a graph on the CPU with ONNX Runtime, for reference vectors and proofs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from penult.errors import BackboneError, first_line

__all__ = ["CpuSession"]


class CpuSession:
    """A session for use from one thread; extraction has its own sessions."""

    def __init__(self, data: bytes, name: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised, so they need not be printed
        # Prepacked weights would double the memory, and a session here runs only once or twice.
        options.add_session_config_entry("session.disable_prepacking", "1")
        # Spinning threads would take cores from the source framework, which may run at the same time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as reason:  # ONNX Runtime's errors have no common base class
            raise BackboneError(
                f"ONNX Runtime cannot run {name}: {first_line(reason)}",
                expected="a graph that ONNX Runtime can run",
            ) from reason
        self._name = name

    @property
    def input_name(self) -> str:
        """The name of the first input."""
        return str(self._session.get_inputs()[0].name)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Returns the outputs by name."""
        try:
            return dict(zip(outputs, self._session.run(list(outputs), dict(feeds)), strict=True))
        except Exception as reason:  # as above
            raise BackboneError(
                f"ONNX Runtime failed in {self._name}: {first_line(reason)}",
                expected="a graph that accepts any batch size",
            ) from reason
