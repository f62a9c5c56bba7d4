"""Models: a head and its backbone in one ONNX file, and predictions for images.

Modules: `bundle` writes a model, `model` reads it, `predict` and `prediction_files` predict images. Each loads onnx or
ONNX Runtime, so this package imports none of them.
"""
