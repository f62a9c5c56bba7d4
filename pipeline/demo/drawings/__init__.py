"""A small data set of drawn images, so that the demo needs no download."""

from penult.pipeline.demo.drawings.collection import CLASSES, draw_collection

__all__ = ["CLASSES", "draw_collection"]
