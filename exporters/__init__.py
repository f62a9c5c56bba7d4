"""A pretrained network becomes a backbone: one ONNX file that takes pixels and says where it came from."""

from penult.exporters.backbone import Backbone, in_bfloat16
from penult.exporters.card import Card, Decoding, Normalisation, Preprocessing, Tap
from penult.exporters.export import export
from penult.exporters.graph.tap_requests import parse_taps
from penult.exporters.registry import builtin_names, load_backbone
from penult.exporters.sources.finding import source_names
from penult.exporters.sources.hints import Hints
from penult.exporters.sources.source_network import ExportRequest

__all__ = [
    "Backbone",
    "Card",
    "Decoding",
    "ExportRequest",
    "Hints",
    "Normalisation",
    "Preprocessing",
    "Tap",
    "builtin_names",
    "export",
    "in_bfloat16",
    "load_backbone",
    "parse_taps",
    "source_names",
]
