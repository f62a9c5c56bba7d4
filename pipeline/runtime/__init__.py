"""Runs backbones with ONNX Runtime or OpenVINO.

`session` loads and runs a graph, and `providers` chooses the device.
"""
