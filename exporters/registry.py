"""Which backbone a name means: the built-in ones, kept in the user's cache folder, and any file by its path."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

import platformdirs

from penult.errors import BackboneError, MissingFileError, UnknownNameError
from penult.exporters.backbone import Backbone

__all__ = ["Builtin", "builtin_names", "cache_folder", "load_backbone", "register"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Builtin:
    """A backbone that is built on first use: ``module:function``, and the fingerprint that it must come to."""

    target: str
    fingerprint: str

    def build(self) -> Backbone:
        """Builds the backbone, and refuses another than the known one."""
        module, _, function = self.target.partition(":")
        backbone = cast("Callable[[], Backbone]", getattr(import_module(module), function))()
        if backbone.fingerprint != self.fingerprint:
            raise BackboneError(
                f"Building {backbone.name} gave the fingerprint {backbone.fingerprint}", expected=self.fingerprint
            )
        return backbone


_builtins: dict[str, Builtin] = {}


def register(name: str, builtin: Builtin) -> None:
    """Adds a built-in backbone; a name is given once."""
    if name in _builtins:
        raise ValueError(f"The backbone {name!r} is registered twice.")
    _builtins[name] = builtin


register(
    "efficientnet-lite0",
    Builtin(
        "penult.exporters.efficientnet_lite0:build",
        "adc913108717951977c1cdafd8cf96a58bf65ee250de8743e86ad8e57c29a2ed",
    ),
)


def builtin_names() -> tuple[str, ...]:
    """Gives the names that need no file.

    >>> builtin_names()
    ('efficientnet-lite0',)
    """
    return tuple(sorted(_builtins))


def cache_folder() -> Path:
    """Gives the folder of built backbones; everything in it can be deleted."""
    return platformdirs.user_cache_path("penult") / "backbones"


def load_backbone(name_or_path: str | Path) -> Backbone:
    """Gives the backbone of a built-in name or of an ``.onnx`` file."""
    text = str(name_or_path)
    if isinstance(name_or_path, str) and text in _builtins:
        return _builtin(text)
    path = Path(name_or_path).expanduser()
    if isinstance(name_or_path, Path) or path.suffix.lower() == ".onnx" or len(path.parts) > 1:
        return Backbone.load(path)
    if path.exists():
        raise BackboneError(f"{text} is not called .onnx", expected="a built-in name, or an .onnx file")
    if ":" in text:
        raise UnknownNameError(
            f"No backbone is called {text!r}",
            expected=f"one of {', '.join(builtin_names())}, or an .onnx file",
            remedy=f"penult export {text}",
        )
    raise UnknownNameError.among("backbone", text, builtin_names())


def _builtin(name: str) -> Backbone:
    """Reads the cached file, or builds the backbone and caches it; a damaged file is replaced."""
    builtin = _builtins[name]
    path = cache_folder() / f"{name}@{builtin.fingerprint[:16]}.onnx"
    try:
        cached = Backbone.load(path)
        if cached.fingerprint == builtin.fingerprint:
            return cached
        _log.warning("%s holds another backbone and is built again", path)
    except MissingFileError:
        pass
    except BackboneError as reason:
        _log.warning("%s is built again: %s", path, reason)
    backbone = builtin.build()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        backbone.save(path)
    except OSError as reason:
        _log.warning("%s could not be cached, so the next run builds it again: %s", path, reason)
    return backbone
