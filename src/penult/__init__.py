"""Penult turns folders of images into a durable store of CNN embeddings, and any labels on them into a classifier."""

__version__ = "0.1.0"
