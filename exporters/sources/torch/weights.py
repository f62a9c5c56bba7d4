"""Reads the tensors of a local weights file with torch, never running what the file asks for."""

import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penult.errors import BackboneError, MissingExtraError

__all__ = ["class_count", "load_strictly", "mismatch_error", "read_state_dict", "rename_keys", "seeded"]

_LARGEST_BYTES = 8 << 30
_TABLES = ("state_dict", "model")  # where training programs put the table beside their own state


def read_state_dict(path: Path) -> dict[str, Any]:
    """Gives the tensors by name, from ``.safetensors`` or from what torch saved."""
    size_bytes = path.stat().st_size
    if size_bytes > _LARGEST_BYTES:
        raise BackboneError(f"{path} is {size_bytes:,} bytes long", expected=f"at most {_LARGEST_BYTES:,}")
    loaded = _safe_tensors(path) if path.suffix.lower() == ".safetensors" else _unpickled(path)
    for key in _TABLES:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded or not all(hasattr(value, "shape") for value in loaded.values()):
        raise BackboneError(
            f"{path} holds no table of tensors", expected="a state dict, alone or under 'state_dict' or 'model'"
        )
    return rename_keys(loaded, lambda name: name.removeprefix("module."))


def rename_keys(state: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    """Gives the tensors under other names, with the notes of torch on the version of each part: MNASNet needs them."""
    renamed: OrderedDict[str, Any] = OrderedDict((rename(str(name)), value) for name, value in state.items())
    notes = getattr(state, "_metadata", None)
    if isinstance(notes, Mapping):
        kept = OrderedDict((rename(f"{name}.").rstrip("."), note) for name, note in notes.items())
        setattr(renamed, "_metadata", kept)  # noqa: B010 - no attribute that a type checker knows; torch has it so
    return renamed


def _safe_tensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise MissingExtraError.of("safetensors", "torch", f"Reading {path.name}") from None
    try:
        return load_file(path)
    except Exception as reason:  # the reader is not written in Python, and its error is no class of Python's
        raise BackboneError(f"{path} cannot be read: {reason}", expected="a safetensors file, and whole") from reason


def _unpickled(path: Path) -> Any:
    import torch

    _refuse_swelling(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old files; whatever matters is refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as reason:  # a damaged file raises whatever its damage leads to
        raise BackboneError(
            f"{path} cannot be read as plain weights: {str(reason).strip().splitlines()[0]}",
            expected="a state dict that torch saved: tensors and nothing that would have to be run",
            remedy="where you trust the file: load it with torch, and save its state_dict() anew",
        ) from reason


def _refuse_swelling(path: Path) -> None:
    """Refuses an archive that unpacks to more than it is long: torch packs nothing, so it wrote no such file."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as reason:
        raise BackboneError(f"{path} cannot be read as plain weights: {reason}", expected="a whole file") from reason
    if unpacked > path.stat().st_size:
        raise BackboneError(
            f"{path} is {path.stat().st_size:,} bytes long and unpacks to {unpacked:,}",
            expected="an archive as torch writes it, in which nothing is packed",
        )


def class_count(network: Any, state: Mapping[str, Any]) -> int | None:
    """Gives how many classes the weights tell apart, where the network's last layer is among them."""
    import torch

    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    names = [name for name, part in network.named_modules() if isinstance(part, kinds) and f"{name}.weight" in state]
    counts = {name: len(state[f"{name}.weight"]) for name in names}
    own = {name: len(network.get_submodule(name).weight) for name in names}
    other = {counts[name] for name in names if counts[name] != own[name]}
    return other.pop() if len(other) == 1 else None


def load_strictly(network: Any, state: Mapping[str, Any], path: Path | str) -> None:
    """Puts every tensor in its place, or says what is missing, left over or of another shape."""
    try:
        network.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError) as reason:
        raise mismatch_error(path, reason) from reason


def mismatch_error(path: Path | str, reason: Exception) -> BackboneError:
    """Makes the error for weights that are not those of the network that was named."""
    lines = [line.strip() for line in str(reason).splitlines()]
    return BackboneError(
        f"The weights of {path} do not fit: {' '.join(lines[1:] or lines)[:400]}",
        expected="exactly the tensors of the network that was named",
        remedy="name the architecture that the file was trained with",
    )


def seeded(build: Callable[[], Any]) -> Any:
    """Builds a network with random weights from one seed, so that they and its fingerprint are always the same."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()
