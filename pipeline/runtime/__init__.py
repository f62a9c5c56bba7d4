"""Runs backbones with ONNX Runtime or OpenVINO on the chosen provider.

Other packages use `session` and `providers`.
"""
