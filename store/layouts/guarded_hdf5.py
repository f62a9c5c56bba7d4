"""HDF5 files of strangers: opened so that they lead to no other file, run nothing and fill no memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError, MissingFileError
from penult.store.tables.columns import as_column

LARGEST_CHUNK_BYTES = 1 << 28
LARGEST_ITEM_BYTES = 1 << 16
LARGEST_RATIO = 1100  # of the best compressed data that HDF5's own filters make
LARGEST_NAMES = 10_000


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Opens a file for reading; what HDF5 finds wrong with it, also later, becomes an InputError."""
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}")
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        raise InputError(f"{path} cannot be read as HDF5: {error}", expected="a whole HDF5 file") from error


def member(group: h5py.Group, name: str) -> h5py.Dataset | h5py.Group | None:
    """Returns what a group holds under a name, and None where there is nothing; links out of the file are refused."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    where = f"{group.file.filename}: {group.name.rstrip('/')}/{name}"
    if not isinstance(link, h5py.HardLink):
        raise InputError(f"{where} is a link to elsewhere", expected="the data itself", remedy="copy it into the file")
    found = group[name]
    if isinstance(found, h5py.Dataset):
        _check(found, where)
    return found


def dataset(group: h5py.Group, *names: str) -> h5py.Dataset | None:
    """Returns the first dataset that a group has under one of ``names``."""
    for name in names:
        found = member(group, name)
        if isinstance(found, h5py.Dataset):
            return found
    return None


def members(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yields the datasets of a group in the order of their names."""
    if len(group) > LARGEST_NAMES:
        raise InputError(f"{group.file.filename}: {group.name} holds {len(group)} names", expected="some columns")
    for name in group:
        found = member(group, name)
        if isinstance(found, h5py.Dataset):
            yield name, found


def is_text(found: h5py.Dataset) -> bool:
    """Whether a dataset holds strings."""
    return h5py.check_string_dtype(found.dtype) is not None


def texts(found: h5py.Dataset, start: int, end: int) -> NDArray[Any]:
    """Returns strings as a column; an empty one is missing."""
    cells = [cell.decode("utf-8", "surrogateescape") for cell in found[start:end].tolist()]
    return as_column([cell or None for cell in cells])


def numbers(found: h5py.Dataset, start: int, end: int) -> NDArray[Any]:
    """Returns numbers or truth values as they stand in the file."""
    if found.dtype.kind not in "fiub":
        raise InputError(f"{found.file.filename}: {found.name} holds {found.dtype}", expected="numbers or text")
    values: NDArray[Any] = found[start:end]
    return values


def word(found: h5py.Dataset, name: str) -> str | None:
    """Returns an attribute that is text, or None."""
    value = found.attrs.get(name)
    return value if isinstance(value, str) else None


def _check(found: h5py.Dataset, where: str) -> None:
    if found.is_virtual or found.external:
        raise InputError(f"{where} keeps its data in other files", expected="the data itself")
    chunk_bytes = int(np.prod(found.chunks or (0,), dtype=object)) * max(1, found.dtype.itemsize)
    if chunk_bytes > LARGEST_CHUNK_BYTES:
        raise InputError(f"{where} is made of chunks of {chunk_bytes} bytes", expected=f"{LARGEST_CHUNK_BYTES} or less")
    if found.dtype.itemsize > LARGEST_ITEM_BYTES:
        raise InputError(f"{where} holds values of {found.dtype.itemsize} bytes each", expected="numbers or text")
    # A file of a few bytes can claim any number of rows: what was never written is read as zeros, without end.
    size, stored = int(found.size or 0) * found.dtype.itemsize, found.id.get_storage_size()
    if size > LARGEST_RATIO * stored + LARGEST_ITEM_BYTES:
        raise InputError(f"{where} claims {size} bytes and holds {stored}", expected="data that is there")
