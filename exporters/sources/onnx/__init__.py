"""Networks from onnx."""
