"""Opens untrusted HDF5 files safely: no links to other files, no code, and bounded memory."""

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
LARGEST_RATIO = 1100  # the highest compression of HDF5's own filters
LARGEST_NAMES = 10_000


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Opens a file for reading; HDF5 errors, also later ones, become an InputError."""
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}")
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        raise InputError(f"{path} cannot be read as HDF5: {error}", expected="an undamaged HDF5 file") from error


def member(group: h5py.Group, name: str) -> h5py.Dataset | h5py.Group | None:
    """Returns the member of a group, or None; raises an error for a link to another file."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    where = f"{group.file.filename}: {group.name.rstrip('/')}/{name}"
    if not isinstance(link, h5py.HardLink):
        raise InputError(f"{where} is a link", expected="the data itself", remedy="copy the data into the file")
    found = group[name]
    if isinstance(found, h5py.Dataset):
        _check(found, where)
    return found


def dataset(group: h5py.Group, *names: str) -> h5py.Dataset | None:
    """Returns the dataset of the first of ``names`` that the group contains, or None."""
    for name in names:
        found = member(group, name)
        if isinstance(found, h5py.Dataset):
            return found
    return None


def members(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yields the datasets of a group, sorted by name."""
    if len(group) > LARGEST_NAMES:
        raise InputError(
            f"{group.file.filename}: {group.name} contains {len(group)} names",
            expected=f"at most {LARGEST_NAMES} columns",
        )
    for name in group:
        found = member(group, name)
        if isinstance(found, h5py.Dataset):
            yield name, found


def is_text(found: h5py.Dataset) -> bool:
    """Whether a dataset contains strings."""
    return h5py.check_string_dtype(found.dtype) is not None


def texts(found: h5py.Dataset, start: int, end: int) -> NDArray[Any]:
    """Returns strings as a column; an empty string is a missing value."""
    cells = [cell.decode("utf-8", "surrogateescape") for cell in found[start:end].tolist()]
    return as_column([cell or None for cell in cells])


def numbers(found: h5py.Dataset, start: int, end: int) -> NDArray[Any]:
    """Returns numbers or booleans as stored in the file."""
    if found.dtype.kind not in "fiub":
        raise InputError(f"{found.file.filename}: {found.name} contains {found.dtype}", expected="numbers or text")
    values: NDArray[Any] = found[start:end]
    return values


def word(found: h5py.Dataset, name: str) -> str | None:
    """Returns an attribute if it is text, else None."""
    value = found.attrs.get(name)
    return value if isinstance(value, str) else None


def _check(found: h5py.Dataset, where: str) -> None:
    if found.is_virtual or found.external:
        raise InputError(f"{where} stores its data in other files", expected="the data itself")
    chunk_bytes = int(np.prod(found.chunks or (0,), dtype=object)) * max(1, found.dtype.itemsize)
    if chunk_bytes > LARGEST_CHUNK_BYTES:
        raise InputError(f"{where} has chunks of {chunk_bytes} bytes", expected=f"at most {LARGEST_CHUNK_BYTES}")
    if found.dtype.itemsize > LARGEST_ITEM_BYTES:
        raise InputError(f"{where} contains values of {found.dtype.itemsize} bytes each", expected="numbers or text")
    # A small file can declare any number of rows, because HDF5 reads unwritten data as zeros.
    size, stored = int(found.size or 0) * found.dtype.itemsize, found.id.get_storage_size()
    if size > LARGEST_RATIO * stored + LARGEST_ITEM_BYTES:
        raise InputError(f"{where} declares {size} bytes and contains {stored}", expected="all of its data")
