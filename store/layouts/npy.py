"""The layout ``npy``: a folder with one vector in a file, named by its key, and ``table.csv``. Never uses pickle.

It also reads folders of vectors and matrices from other programs. ``file_names.txt``, or a ``.txt`` file with the name
of the matrix, then gives the image of each row, line by line.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.layouts.h5 import parse_spec
from penult.store.layouts.rows import Block, RowsToExport, block_rows, feature_type
from penult.store.spec import FeatureType, SpaceSpec
from penult.store.tables.formats import read_table, table_of, write_table

_LARGEST_NAMES_BYTES = 1 << 30


class NpyFolder:
    """Writes and reads a folder of ``.npy`` files."""

    suffix = ""

    def write(self, rows: RowsToExport, folder: Path) -> list[str]:
        """Writes a file for each key, and a line of the table for each row."""
        folder.mkdir()
        (folder / "space.json").write_text(json.dumps(rows.spec.to_json()), encoding="utf-8")
        for block in rows.blocks():
            assert block.keys is not None
            for key, vector in zip(block.keys, block.features, strict=True):
                path = folder / f"{key.tobytes().hex()}.npy"
                if not path.exists():
                    with write_npy(path, rows.spec.dtype, (1, rows.spec.width)) as put:
                        put(vector)
        write_table(folder / "table.csv", rows.table)
        return []

    def matches(self, path: Path) -> bool:
        """Whether the path is a folder that contains a ``.npy`` file."""
        return path.is_dir() and any(True for _ in path.glob("*.npy"))

    def read(self, path: Path) -> "NpyReader":
        """Opens a folder for reading."""
        return NpyReader(path)


class NpyReader:
    """A folder of ``.npy`` files, sorted by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.notes: list[str] = []
        self._files = [NpyFile(path) for path in sorted(folder.glob("*.npy"))]
        self.spec: SpaceSpec | None = None
        if (folder / "space.json").is_file():
            self.spec = parse_spec((folder / "space.json").read_bytes(), str(folder / "space.json"))
        widths = {file.width for file in self._files}
        if len(widths) > 1:
            raise InputError(f"{folder} contains rows of {len(widths)} widths", expected="one width")
        self.width = widths.pop() if widths else self.spec.width if self.spec else 0
        self.rows = sum(file.rows for file in self._files)
        is_half = all(file.dtype == "float16" for file in self._files)
        self.dtype: FeatureType = "float16" if is_half and self._files else "float32"

    def blocks(self) -> Iterator[Block]:
        """Yields the rows."""
        if (self._folder / "table.csv").is_file() and self.spec is not None:
            yield from self._ours()
            return
        for file in self._files:
            names = self._names(file)
            for start in range(0, file.rows, block_rows(self.width)):
                features = file.take(block_rows(self.width))
                yield Block(features, None, tuple(names[start : start + len(features)]))

    def _ours(self) -> Iterator[Block]:
        table = table_of(read_table(self._folder / "table.csv", encoding="utf-8"))
        size = block_rows(self.width)
        for start in range(0, len(table), size):
            part = table.select(np.arange(start, min(start + size, len(table))))
            paths = [self._folder / f"{key.hex()}.npy" for key in part.key_bytes()]
            lacking = next((path for path in paths if not path.is_file()), None)
            if lacking:
                raise InputError(f"{lacking} is missing", expected="a file for each row of table.csv")
            features = np.concatenate([NpyFile(path).take(1) for path in paths])
            yield Block(features, part.keys, part.paths, part.columns)

    def _names(self, file: "NpyFile") -> list[str]:
        if file.rows == 1:
            return [file.path.stem]
        for path in (file.path.with_suffix(".txt"), self._folder / "file_names.txt"):
            if path.is_file() and path.stat().st_size <= _LARGEST_NAMES_BYTES:
                names = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
                if len(names) != file.rows:
                    raise InputError(f"{path} names {len(names)} images", expected=f"{file.rows}, as {file.path} has")
                return names
        return [f"{file.path.stem}:{row}" for row in range(file.rows)]


class NpyFile:
    """A matrix on disk, or a vector as a matrix of one row, for reading from start to end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            try:
                version = npy_format.read_magic(file)
                read_header = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
                shape, is_by_columns, dtype = read_header[version](file)
            except (ValueError, KeyError) as error:
                raise InputError(
                    f"{path} is not a .npy file of numbers: {error}", expected="a file from numpy.save"
                ) from error
            self._start = file.tell()
        if len(shape) == 1:
            shape = (1, *shape)
        self.dtype = feature_type(dtype, shape, str(path))
        self.rows, self.width = shape
        if is_by_columns and self.rows > 1:
            raise InputError(f"{path} is stored column by column", remedy="save numpy.ascontiguousarray of the matrix")
        self._type = dtype
        size = path.stat().st_size - self._start
        if size != self.rows * self.width * dtype.itemsize:
            raise InputError(
                f"{path} contains {size} bytes of numbers", expected=f"{self.rows} x {self.width} of {dtype}"
            )
        self._next = 0

    def take(self, count: int) -> NDArray[Any]:
        """Returns the next ``count`` rows."""
        count = min(count, self.rows - self._next)
        with self.path.open("rb") as file:
            file.seek(self._start + self._next * self.width * self._type.itemsize)
            values = np.fromfile(file, self._type, count * self.width)
        if values.size != count * self.width:
            raise InputError(f"{self.path} became shorter during the read")
        self._next += count
        return values.reshape(count, self.width)


@contextmanager
def write_npy(path: Path, dtype: str, shape: tuple[int, int]) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Yields a function that writes the rows of a matrix, block by block."""
    # Not a memory map: on a full disk it would kill the process instead of raising an error.
    with path.open("xb") as file:
        kind = np.dtype(dtype).newbyteorder("<")
        npy_format.write_array_header_1_0(file, {"descr": kind.str, "fortran_order": False, "shape": shape})

        def put(block: NDArray[Any]) -> None:
            file.write(np.ascontiguousarray(block, kind).tobytes())

        yield put
