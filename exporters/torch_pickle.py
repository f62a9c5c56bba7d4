"""Reads the tensors of a legacy torch ``.pth`` file into numpy, without torch and without running code of the file.

A pickle is a program. Before it runs, its opcodes are checked against the few that a table of tensors needs. It can
call only the harmless replacements in this module.
"""

import math
import pickle
import pickletools
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from penult.errors import BackboneError, MissingFileError

__all__ = ["read_tensors"]

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# fmt: off
_OPCODES = frozenset((
    "PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "MEMOIZE", "NONE", "NEWTRUE", "NEWFALSE",
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "EMPTY_TUPLE", "TUPLE",
    "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS", "BINPUT",
    "LONG_BINPUT", "BINGET", "LONG_BINGET",
))
# fmt: on
_LARGEST_FILE = 4 << 30
_MOST_OPCODES = 2_000_000


class _Table(dict[str, Any]):
    """Replaces OrderedDict; drops the state of a state_dict (its version metadata)."""

    def __setstate__(self, state: object) -> None:
        del state


@dataclass(frozen=True)
class _Kind:
    dtype: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class _View:
    """A tensor before its numbers are read: a strided view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def rebuilt(
        cls, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
    ) -> Self:
        """Replaces the function that rebuilds a tensor in torch."""
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or len(shape) != len(strides) or len(shape) > 16:
            raise ValueError("it contains a tensor of an unknown form")
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("it contains a tensor with a negative size")
        last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        count: int = math.prod(list(shape))
        if count > storage.count or (count and last >= storage.count):
            raise ValueError("it contains a tensor that is larger than its storage")
        return cls(storage, offset, shape, strides)

    def cut(self, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns a copy of the view from the numbers of its storage."""
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.array(np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides), order="C")


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Returns every tensor of a state dict by name."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise _refused(path, f"{path.stat().st_size} bytes long", f"at most {_LARGEST_FILE}")
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"The weights file {path} does not exist") from None
    if data[:4] == b"PK\x03\x04":
        raise _refused(path, "in torch's zip format", "the legacy format")
    try:
        return _tensors(BytesIO(data))
    except (pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, EOFError, AttributeError) as reason:
        if isinstance(reason, BackboneError):
            raise
        raise BackboneError(
            f"The weights file {path} cannot be read: {reason}", expected="a complete state dict that torch saved"
        ) from reason


def _tensors(stream: IO[bytes]) -> dict[str, npt.NDArray[Any]]:
    magic, protocol, system = (_unpickler(stream).load() for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise ValueError("it does not start like a legacy torch file")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its numbers are not little-endian")
    reader = _unpickler(stream)
    table = reader.load()
    keys = _unpickler(stream).load()
    if not isinstance(table, dict) or not isinstance(keys, list):
        raise ValueError("it contains no table of named tensors")
    numbers = {key: _numbers(stream, reader.storages[key]) for key in keys}
    return {str(name): view.cut(numbers[view.storage.key]) for name, view in table.items() if isinstance(view, _View)}


def _numbers(stream: IO[bytes], storage: _Storage) -> npt.NDArray[Any]:
    """Reads one storage, and never allocates more than the file contains."""
    count = int.from_bytes(stream.read(8), "little")
    size_bytes = storage.count * np.dtype(storage.dtype).itemsize
    content = stream.read(size_bytes) if count == storage.count else b""
    if len(content) != size_bytes or count != storage.count:
        raise ValueError(f"storage {storage.key} ends early")
    return np.frombuffer(content, dtype=storage.dtype)


def _unpickler(stream: IO[bytes]) -> "_Restricted":
    """Checks each opcode of the next pickle in the stream, and returns a reader for exactly those bytes."""
    start = stream.tell()
    for position, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if opcode.name not in _OPCODES or position > _MOST_OPCODES:
            raise ValueError(f"its pickle contains {opcode.name}, which no table of tensors needs")
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > _MOST_OPCODES:
            raise ValueError("its pickle requests too much memory")
    end = stream.tell()
    stream.seek(start)
    return _Restricted(BytesIO(stream.read(end - start)))


class _Restricted(pickle.Unpickler):
    """Calls only the replacements in this module."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _Table
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _View.rebuilt
        if module == "torch" and name in _STORAGES:
            return _Kind(_STORAGES[name])
        raise ValueError(f"it requests {module}.{name}, but only tensors are read from a weights file")

    def persistent_load(self, pid: Any) -> _Storage:
        tag, kind, key, _, count, *view = pid
        if tag != "storage" or not isinstance(kind, _Kind) or not 0 <= count <= _LARGEST_FILE or any(view):
            raise ValueError("it contains a storage of an unknown form")
        storage = _Storage(str(key), kind.dtype, int(count))
        if self.storages.setdefault(storage.key, storage) != storage:
            raise ValueError(f"it describes storage {storage.key} twice, in different ways")
        return storage


def _refused(path: Path, happened: str, expected: str) -> BackboneError:
    return BackboneError(f"The weights file {path} is {happened}", expected=expected)
