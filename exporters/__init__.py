"""A pretrained network becomes a backbone: one ONNX file that takes pixels and says where it came from."""

from penult.exporters.backbone import Backbone
from penult.exporters.card import Card, Decoding, Normalisation, Preprocessing, Tap
from penult.exporters.registry import builtin_names, load_backbone

__all__ = [
    "Backbone",
    "Card",
    "Decoding",
    "Normalisation",
    "Preprocessing",
    "Tap",
    "builtin_names",
    "load_backbone",
]
