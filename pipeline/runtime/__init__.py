"""Sessions of ONNX Runtime and OpenVINO on the device that was chosen."""
