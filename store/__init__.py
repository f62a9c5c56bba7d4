"""(space, key) to vector, durably, and the catalog beside it; knows neither ONNX nor scikit-learn."""
