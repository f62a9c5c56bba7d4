"""A data set that draws itself, so that the whole way can be shown offline."""

from penult.pipeline.demo.drawings.collection import CLASSES, draw_collection

__all__ = ["CLASSES", "draw_collection"]
