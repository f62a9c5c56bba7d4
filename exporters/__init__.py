"""A pretrained network becomes a backbone: one ONNX file that takes pixels and says where it came from."""
