"""Matrices as ``.npy`` files, written and read in pieces, and never with pickle."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.layouts.rows import feature_type


class NpyFile:
    """A matrix on disk, or a vector as a matrix of one row, read from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            try:
                version = npy_format.read_magic(file)
                read_header = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
                shape, is_by_columns, dtype = read_header[version](file)
            except (ValueError, KeyError) as error:
                raise InputError(
                    f"{path} is no .npy file of numbers: {error}", expected="what numpy.save writes"
                ) from error
            self._start = file.tell()
        if len(shape) == 1:
            shape = (1, *shape)
        self.dtype = feature_type(dtype, shape, str(path))
        self.rows, self.width = shape
        if is_by_columns and self.rows > 1:
            raise InputError(f"{path} is written column by column", remedy="save numpy.ascontiguousarray of it")
        self._type = dtype
        size = path.stat().st_size - self._start
        if size != self.rows * self.width * dtype.itemsize:
            raise InputError(f"{path} holds {size} bytes of numbers", expected=f"{self.rows} x {self.width} of {dtype}")
        self._next = 0

    def take(self, count: int) -> NDArray[Any]:
        """Returns the next rows."""
        count = min(count, self.rows - self._next)
        with self.path.open("rb") as file:
            file.seek(self._start + self._next * self.width * self._type.itemsize)
            values = np.fromfile(file, self._type, count * self.width)
        if values.size != count * self.width:
            raise InputError(f"{self.path} became shorter while it was read")
        self._next += count
        return values.reshape(count, self.width)


@contextmanager
def write_npy(path: Path, dtype: str, shape: tuple[int, int]) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Gives a function that takes the rows of a matrix, block by block."""
    # No memory map: on a full disk that would end the process instead of raising an error.
    with path.open("xb") as file:
        kind = np.dtype(dtype).newbyteorder("<")
        npy_format.write_array_header_1_0(file, {"descr": kind.str, "fortran_order": False, "shape": shape})

        def put(block: NDArray[Any]) -> None:
            file.write(np.ascontiguousarray(block, kind).tobytes())

        yield put
