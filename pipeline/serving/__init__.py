"""A small HTTP server in front of a model: images in, labels and probabilities out."""
