"""Exports pretrained networks as backbones: ONNX files that take pixels and describe their origin.

Each name is imported on first use, so that the help of a verb does not load ONNX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penult.exporters.backbone import Backbone as Backbone
    from penult.exporters.backbone import in_bfloat16 as in_bfloat16
    from penult.exporters.card import Card as Card
    from penult.exporters.card import Decoding as Decoding
    from penult.exporters.card import Normalisation as Normalisation
    from penult.exporters.card import Preprocessing as Preprocessing
    from penult.exporters.card import Tap as Tap
    from penult.exporters.exporting import export as export
    from penult.exporters.registry import builtin_names as builtin_names
    from penult.exporters.registry import load_backbone as load_backbone
    from penult.exporters.requests import ExportRequest as ExportRequest
    from penult.exporters.requests import Hints as Hints
    from penult.exporters.requests import parse_taps as parse_taps
    from penult.exporters.sources.lookup import source_names as source_names

_MODULES = {
    "backbone": ("Backbone", "in_bfloat16"),
    "card": ("Card", "Decoding", "Normalisation", "Preprocessing", "Tap"),
    "exporting": ("export",),
    "registry": ("builtin_names", "load_backbone"),
    "requests": ("ExportRequest", "Hints", "parse_taps"),
    "sources.lookup": ("source_names",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 - the names are listed once, above


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
