"""Which sources there are: a prefix maps to a lazy ``module:object``, and other packages add theirs by entry point."""

from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from penult.errors import InputError, UnknownNameError
from penult.exporters.registry import builtin_names
from penult.exporters.sources.source_network import Exporter

__all__ = ["GROUP", "find_source", "source_names"]

GROUP = "penult.exporters"

_OWN = {
    "caffe": "penult.exporters.sources.caffe.source:read_caffe",
    "keras": "penult.exporters.sources.keras.source:read_keras",
    "onnx": "penult.exporters.sources.onnx.source:read_onnx",
    "timm": "penult.exporters.sources.torch.timm_source:read_timm",
    "torchvision": "penult.exporters.sources.torch.torchvision_source:read_torchvision",
}
_OF_FILES = {
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
    """Gives the prefixes that ``export`` takes."""
    return tuple(sorted(_targets()))


def find_source(source: str) -> tuple[Exporter, str]:
    """Splits ``prefix:rest`` and loads the exporter of the prefix."""
    prefix, colon, rest = source.partition(":")
    targets = _targets()
    if not colon or not rest:
        raise InputError(
            f"The source {source!r} has no {'prefix' if rest or not colon else 'name or file behind its prefix'}",
            expected=f"PREFIX:REST, with {', '.join(sorted(targets))} as PREFIX",
            remedy=_meant(source),
        )
    if prefix not in targets:
        raise UnknownNameError.among("source", prefix, targets)
    module, _, name = targets[prefix].partition(":")
    return cast("Exporter", getattr(import_module(module), name)), rest


def _meant(source: str) -> str:
    """Gives what was probably meant by a source without a prefix."""
    if source in builtin_names():
        return f"it is built in: --backbone {source} takes it as it is"
    return _OF_FILES.get(Path(source).suffix.lower(), "").replace("{}", source)


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
