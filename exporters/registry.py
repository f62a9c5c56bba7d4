"""Loads backbones: the built-in ones by name, from the user's cache folder, and any file by its path."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

import platformdirs

from penult.errors import BackboneError, MissingFileError, UnknownNameError

if TYPE_CHECKING:
    from penult.exporters.backbone import Backbone

__all__ = ["Builtin", "builtin_names", "cache_folder", "load_backbone", "register"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Builtin:
    """A backbone that ``module:function`` builds on first use, and the fingerprint that it must have."""

    target: str
    fingerprint: str

    def build(self) -> "Backbone":
        """Builds the backbone; raises BackboneError where its fingerprint is another one."""
        module, _, function = self.target.partition(":")
        backbone = cast("Callable[[], Backbone]", getattr(import_module(module), function))()
        if backbone.fingerprint != self.fingerprint:
            raise BackboneError(
                f"The backbone built for {backbone.name} has the fingerprint {backbone.fingerprint}",
                expected=self.fingerprint,
            )
        return backbone


_builtins: dict[str, Builtin] = {}


def register(name: str, builtin: Builtin) -> None:
    """Adds a built-in backbone under a new name."""
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
    """Returns the names of the built-in backbones.

    >>> builtin_names()
    ('efficientnet-lite0',)
    """
    return tuple(sorted(_builtins))


def cache_folder() -> Path:
    """Returns the folder that caches built backbones; its content can be deleted."""
    return platformdirs.user_cache_path("penult") / "backbones"


def load_backbone(name_or_path: str | Path) -> "Backbone":
    """Returns the backbone of a built-in name or of an ``.onnx`` file."""
    from penult.exporters.backbone import Backbone

    text = str(name_or_path)
    if isinstance(name_or_path, str) and text in _builtins:
        return _builtin(text)
    path = Path(name_or_path).expanduser()
    if isinstance(name_or_path, Path) or path.suffix.lower() == ".onnx" or len(path.parts) > 1:
        return Backbone.load(path)
    if path.exists():
        raise BackboneError(f"The name of {text} does not end in .onnx", expected="a built-in name, or an .onnx file")
    if ":" in text:
        raise UnknownNameError(
            f"There is no backbone {text!r}",
            expected=f"one of {', '.join(builtin_names())}, or an .onnx file",
            remedy=f"penult export {text}",
        )
    raise UnknownNameError.among("backbone", text, builtin_names())


def _builtin(name: str) -> "Backbone":
    """Returns the cached backbone; builds and caches it where the file is missing or damaged."""
    from penult.exporters.backbone import Backbone

    builtin = _builtins[name]
    path = cache_folder() / f"{name}@{builtin.fingerprint[:16]}.onnx"
    try:
        cached = Backbone.load(path)
        if cached.fingerprint == builtin.fingerprint:
            return cached
        _log.warning("%s contains another backbone; building it again", path)
    except MissingFileError:
        pass
    except BackboneError as reason:
        _log.warning("Building %s again: %s", path, reason)
    backbone = builtin.build()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        backbone.save(path)
    except OSError as reason:
        _log.warning("Cannot cache %s, so the next run builds it again: %s", path, reason)
    return backbone
