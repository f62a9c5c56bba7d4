"""Defaults and choices that the Python API and the command line share.

This module imports nothing, so that ``penult VERB --help`` can show them without loading a numerical library.
"""

STORE = "penult-store"
BACKBONE = "efficientnet-lite0"
FEATURES = "penultimate"
TARGET = "label"
VIEWS = "identity"

# Execution providers that a user can name, next to "auto".
PROVIDERS = ("cpu", "cuda", "tensorrt", "openvino")

# One image may take this much time, and this much memory while it is decoded.
IMAGE_SECONDS = 60.0
IMAGE_MEGABYTES = 512

# Heads that fit in seconds. "auto" chooses among them, and `compare` tries them by default.
QUICK_HEADS = ("logistic", "ridge", "lda", "centroid")

# Figures that `compare` can rank by, and the words for them.
MEASURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log-loss",
}

# The share of images that `dataset split` puts into the test split.
TEST_SHARE = 0.2

# How `report` can lay out its map of the images.
MAP_METHODS = ("pca", "umap")

# What `store export` writes and `store import` reads; `penult.store.layouts.LAYOUTS` implements them.
LAYOUTS = ("clam", "clip", "h5", "npy", "parquet", "stamp", "trident")

# Pixel conventions and filters that `export` can name; `penult.exporters` and the decoder implement them.
PIXEL_FAMILIES = ("torch", "caffe", "tf", "unit", "raw")
RESIZE_FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
