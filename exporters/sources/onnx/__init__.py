"""The source ``onnx:``: any image classifier in ONNX."""

from penult.exporters.sources.onnx.source import read_onnx

__all__ = ["read_onnx"]
