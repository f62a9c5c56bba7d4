"""Runs a graph on the CPU with ONNX Runtime, for reference vectors and proofs; extraction has its own sessions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from penult.errors import BackboneError

__all__ = ["CpuSession"]


class CpuSession:
    """One session that is used from one thread."""

    def __init__(self, data: bytes, what: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised, and is not printed as well
        # Weights turned round for a faster product would be in memory twice, and a run or two is all that there is.
        options.add_session_config_entry("session.disable_prepacking", "1")
        # Threads that spin while they wait take cores from whatever else runs here, such as the source itself.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as reason:  # ONNX Runtime's errors share no base of their own
            raise BackboneError(
                f"ONNX Runtime cannot run {what}: {str(reason).strip().splitlines()[0]}", expected="a graph that runs"
            ) from reason
        self._what = what

    @property
    def input_name(self) -> str:
        """The first input that must be fed."""
        return str(self._session.get_inputs()[0].name)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Gives the outputs by name."""
        try:
            return dict(zip(outputs, self._session.run(list(outputs), dict(feeds)), strict=True))
        except Exception as reason:  # as above
            raise BackboneError(
                f"ONNX Runtime stopped in {self._what}: {str(reason).strip().splitlines()[0]}",
                expected="a graph that takes a batch of any size",
            ) from reason
