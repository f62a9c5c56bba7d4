"""Reads, converts and writes ONNX graphs; every source uses these modules."""
