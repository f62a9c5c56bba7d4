"""Reads the tensors of a local weights file with torch, without running code of the file."""

import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penult.errors import BackboneError, MissingExtraError, first_line

__all__ = ["class_count", "load_strictly", "mismatch_error", "read_state_dict", "rename_keys", "seeded"]

_LARGEST_BYTES = 8 << 30
_TABLES = ("state_dict", "model")  # keys under which training programs store the state dict


def read_state_dict(path: Path) -> dict[str, Any]:
    """Returns the tensors by name, from ``.safetensors`` or from a file that torch saved."""
    size_bytes = path.stat().st_size
    if size_bytes > _LARGEST_BYTES:
        raise BackboneError(f"{path} is {size_bytes:,} bytes long", expected=f"at most {_LARGEST_BYTES:,}")
    loaded = _safe_tensors(path) if path.suffix.lower() == ".safetensors" else _unpickled(path)
    for key in _TABLES:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded or not all(hasattr(value, "shape") for value in loaded.values()):
        raise BackboneError(
            f"{path} contains no table of tensors", expected="a state dict, alone or under 'state_dict' or 'model'"
        )
    return rename_keys(loaded, lambda name: name.removeprefix("module."))


def rename_keys(state: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    """Returns the tensors under new names, with torch's version metadata, which MNASNet needs."""
    renamed: OrderedDict[str, Any] = OrderedDict((rename(str(name)), value) for name, value in state.items())
    notes = getattr(state, "_metadata", None)
    if isinstance(notes, Mapping):
        kept = OrderedDict((rename(f"{name}.").rstrip("."), note) for name, note in notes.items())
        setattr(renamed, "_metadata", kept)  # noqa: B010 - type checkers do not know this attribute
    return renamed


def _safe_tensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise MissingExtraError.of("safetensors", "torch", f"Reading {path.name}") from None
    try:
        return load_file(path)
    except Exception as reason:  # the reader is written in Rust and has its own exception
        raise BackboneError(f"{path} cannot be read: {reason}", expected="a complete safetensors file") from reason


def _unpickled(path: Path) -> Any:
    import torch

    _check_uncompressed(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old files; real problems raise
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as reason:  # a damaged file may raise any exception
        raise BackboneError(
            f"{path} cannot be read as plain weights: {first_line(reason)}",
            expected="a state dict that torch saved, with tensors and no code",
            remedy="if you trust the file, load it with torch and save its state_dict() again",
        ) from reason


def _check_uncompressed(path: Path) -> None:
    """Raises BackboneError for an archive that unpacks to more than its size: torch does not compress."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as reason:
        raise BackboneError(f"{path} cannot be read as plain weights: {reason}", expected="a complete file") from reason
    if unpacked > path.stat().st_size:
        raise BackboneError(
            f"{path} is {path.stat().st_size:,} bytes long and unpacks to {unpacked:,}",
            expected="an uncompressed archive, as torch writes it",
        )


def class_count(network: Any, state: Mapping[str, Any]) -> int | None:
    """Returns the number of classes in the weights if it differs from the network's, else None."""
    import torch

    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    names = [name for name, part in network.named_modules() if isinstance(part, kinds) and f"{name}.weight" in state]
    counts = {name: len(state[f"{name}.weight"]) for name in names}
    own = {name: len(network.get_submodule(name).weight) for name in names}
    other = {counts[name] for name in names if counts[name] != own[name]}
    return other.pop() if len(other) == 1 else None


def load_strictly(network: Any, state: Mapping[str, Any], path: Path | str) -> None:
    """Loads every tensor; raises BackboneError for missing, unexpected or differently shaped ones."""
    try:
        network.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError) as reason:
        raise mismatch_error(path, reason) from reason


def mismatch_error(path: Path | str, reason: Exception) -> BackboneError:
    """Returns the error for weights that do not belong to the named network."""
    lines = [line.strip() for line in str(reason).splitlines()]
    return BackboneError(
        f"The weights of {path} do not fit: {' '.join(lines[1:] or lines)[:400]}",
        expected="exactly the tensors of the named network",
        remedy="name the architecture of the file",
    )


def seeded(build: Callable[[], Any]) -> Any:
    """Returns a network with random weights from a fixed seed, so that its fingerprint is always the same."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()
