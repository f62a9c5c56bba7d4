"""Finds the source of a prefix such as ``timm``; other packages add sources by entry points."""

from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, cast

from penult.errors import InputError, UnknownNameError
from penult.exporters.registry import builtin_names

if TYPE_CHECKING:
    from penult.exporters.sources.base import Exporter

__all__ = ["GROUP", "find_source", "source_names"]

GROUP = "penult.exporters"

_BUILTIN = {
    "caffe": "penult.exporters.sources.caffe:read_caffe",
    "keras": "penult.exporters.sources.keras:read_keras",
    "onnx": "penult.exporters.sources.onnx:read_onnx",
    "timm": "penult.exporters.sources.torch:read_timm",
    "torchvision": "penult.exporters.sources.torch:read_torchvision",
}
_BY_SUFFIX = {
    ".h5": "keras:{}",
    ".hdf5": "keras:{}",
    ".keras": "keras:{}",
    ".onnx": "onnx:{}",
    ".caffemodel": "caffe:deploy.prototxt,{}",
    ".prototxt": "caffe:{},weights.caffemodel",
    ".pt": "torchvision:NAME@{}, or timm:NAME@{}",
    ".pth": "torchvision:NAME@{}, or timm:NAME@{}",
    ".safetensors": "timm:NAME@{}, or torchvision:NAME@{}",
}


def source_names() -> tuple[str, ...]:
    """Returns the prefixes that ``export`` accepts."""
    return tuple(sorted(_targets()))


def find_source(source: str) -> "tuple[Exporter, str]":
    """Splits ``prefix:rest`` and imports the exporter of the prefix."""
    prefix, colon, rest = source.partition(":")
    targets = _targets()
    if not colon or not rest:
        raise InputError(
            f"The source {source!r} has no {'prefix' if rest or not colon else 'name or file after its prefix'}",
            expected=f"PREFIX:REST, where PREFIX is one of {', '.join(sorted(targets))}",
            remedy=_suggestion(source),
        )
    if prefix not in targets:
        raise UnknownNameError.among("source", prefix, targets)
    module, _, name = targets[prefix].partition(":")
    return cast("Exporter", getattr(import_module(module), name)), rest


def _suggestion(source: str) -> str:
    """Suggests a full source for one that lacks its prefix."""
    if source in builtin_names():
        return f"this backbone is built in: use --backbone {source} without exporting it"
    return _BY_SUFFIX.get(Path(source).suffix.lower(), "").replace("{}", source)


def _targets() -> dict[str, str]:
    targets = dict(_BUILTIN)
    for point in entry_points(group=GROUP):
        if targets.setdefault(point.name, point.value) != point.value:
            raise InputError(
                f"Two packages provide the source {point.name!r}: {targets[point.name]} and {point.value}",
                expected="one package per prefix",
                remedy="uninstall one of them",
            )
    return targets
