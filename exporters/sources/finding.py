"""Which sources there are: a prefix maps to a lazy ``module:object``, and other packages add theirs by entry point."""

from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from penult.errors import InputError, UnknownNameError
from penult.exporters.sources.source_network import Exporter

__all__ = ["GROUP", "find_source", "source_names"]

GROUP = "penult.exporters"

_OWN = {
    "caffe": "penult.exporters.sources.caffe_source:read_caffe",
    "keras": "penult.exporters.sources.keras_source:read_keras",
    "onnx": "penult.exporters.sources.onnx_source:read_onnx",
    "timm": "penult.exporters.sources.timm_source:read_timm",
    "torchvision": "penult.exporters.sources.torchvision_source:read_torchvision",
}


def source_names() -> tuple[str, ...]:
    """Gives the prefixes that ``export`` takes."""
    return tuple(sorted(_targets()))


def find_source(source: str) -> tuple[Exporter, str]:
    """Splits ``prefix:rest`` and loads the exporter of the prefix."""
    prefix, colon, rest = source.partition(":")
    targets = _targets()
    if not colon or not rest:
        raise InputError(
            f"The source {source!r} has no prefix", expected=f"PREFIX:REST, with {', '.join(sorted(targets))} as PREFIX"
        )
    if prefix not in targets:
        raise UnknownNameError.among("source", prefix, targets)
    module, _, name = targets[prefix].partition(":")
    return cast("Exporter", getattr(import_module(module), name)), rest


def _targets() -> dict[str, str]:
    targets = dict(_OWN)
    for point in entry_points(group=GROUP):
        if targets.setdefault(point.name, point.value) != point.value:
            raise InputError(
                f"The source {point.name!r} is given twice: {targets[point.name]} and {point.value}",
                expected="one package for each prefix",
                remedy="uninstall one of the two",
            )
    return targets
