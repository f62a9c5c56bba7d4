"""Runs backbones with ONNX Runtime or OpenVINO.

`session` loads and runs a graph, `providers` chooses a device, and `cores` counts the usable cores.
"""
