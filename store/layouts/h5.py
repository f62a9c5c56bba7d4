"""The layout ``h5``: one plain HDF5 file that h5py, MATLAB and R read in one line each.

It contains ``/features`` (rows, width) float32, ``/keys`` (rows, 16) uint8, ``/paths``, optional ``/labels``, and other
columns in the group ``/columns``. Text is UTF-8 of variable length, empty if missing. Missing numbers are NaN. The JSON
in ``/space`` describes what made the features.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h5py
import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.layouts import guarded_hdf5 as guarded
from penult.store.layouts.rows import Block, RowsToExport, block_rows, feature_type
from penult.store.spec import SpaceSpec
from penult.store.tables.columns import Kind, as_column

FORMAT = "penult-features"
_TEXT = h5py.string_dtype("utf-8")
_LARGEST_SPEC = 1 << 24


class PlainH5:
    """Writes and reads one plain HDF5 file."""

    suffix = ".h5"

    def write(self, rows: RowsToExport, path: Path) -> list[str]:
        """Writes all rows, one block at a time."""
        with h5py.File(path, "x") as file:
            file.attrs["format"], file.attrs["version"] = FORMAT, 1
            file.create_dataset("space", data=json.dumps(rows.spec.to_json()), dtype=_TEXT)
            file.create_dataset("features", (rows.rows, rows.spec.width), "<f4")
            file.create_dataset("keys", (rows.rows, 16), "u1")
            file.create_dataset("paths", (rows.rows,), _TEXT)
            targets = {name: _make_column(file, name, rows) for name in rows.kinds}
            start = 0
            for block in rows.blocks():
                here = slice(start, start + len(block))
                file["features"][here], file["keys"][here] = block.features, block.keys
                file["paths"][here] = _cells(block.paths or (), "paths")
                for name, target in targets.items():
                    target[here] = _stored(block.columns[name], rows.kinds[name], target, name)
                start = here.stop
        return []

    def matches(self, path: Path) -> bool:
        """Whether the path is a file that ends in ``.h5`` or ``.hdf5``."""
        return path.is_file() and path.suffix.lower() in {".h5", ".hdf5"}

    def read(self, path: Path) -> "H5Reader":
        """Opens a file for reading."""
        return H5Reader(path)


class H5Reader:
    """A plain file of features, from penult or another program; only ``features`` is required."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.notes: list[str] = []
        with guarded.opened(path) as file:
            features = _features(file)
            self.dtype = feature_type(features.dtype, features.shape, f"{path}: features")
            self.rows, self.width = features.shape
            self.spec = read_spec(file)
            for name, found in self._columns(file).items():
                if found.shape[:1] != (self.rows,):
                    raise InputError(f"{path}: {name} has the shape {found.shape}", expected=f"{self.rows} rows")

    def blocks(self) -> Iterator[Block]:
        """Yields the rows."""
        size = block_rows(self.width)
        with guarded.opened(self._path) as file:
            features, columns = _features(file), self._columns(file)
            keys, paths = columns.pop("keys", None), columns.pop("paths", None)
            for start in range(0, self.rows, size):
                end = min(start + size, self.rows)
                yield Block(
                    features[start:end],
                    None if keys is None else keys[start:end],
                    None if paths is None else tuple(cell or "" for cell in guarded.texts(paths, start, end)),
                    {_name(found): _column(found, start, end) for found in columns.values()},
                )

    def _columns(self, file: h5py.File) -> dict[str, h5py.Dataset]:
        found = {name: guarded.dataset(file, name) for name in ("keys", "paths", "labels")}
        columns = {name: one for name, one in found.items() if one is not None}
        others = guarded.member(file, "columns")
        if isinstance(others, h5py.Group):
            columns |= {f"columns/{name}": one for name, one in guarded.members(others)}
        if "paths" in columns and not guarded.is_text(columns["paths"]):
            raise InputError(f"{self._path}: paths contains {columns['paths'].dtype}", expected="text")
        if "keys" in columns and (columns["keys"].dtype != np.uint8 or columns["keys"].shape[1:] != (16,)):
            raise InputError(
                f"{self._path}: keys contains {columns['keys'].dtype}", expected="uint8 of shape (rows, 16)"
            )
        return columns


def read_spec(file: h5py.File) -> SpaceSpec | None:
    """Returns the space that a file describes, or None."""
    found = guarded.dataset(file, "space")
    if found is None or found.shape != () or not guarded.is_text(found):
        return None
    text = found[()]
    if len(text) > _LARGEST_SPEC:
        raise InputError(f"{file.filename}: the description of the space is {len(text)} bytes long")
    return parse_spec(text, file.filename)


def parse_spec(text: bytes | str, where: str) -> SpaceSpec:
    """Returns the space that JSON describes."""
    try:
        return SpaceSpec.from_json(json.loads(text))
    except ValueError as error:
        raise InputError(f"{where}: the description of the space cannot be read: {error}") from error


def _features(file: h5py.File) -> h5py.Dataset:
    found = guarded.dataset(file, "features")
    if found is None:
        names = ", ".join(list(file)[:10])
        raise InputError(f"{file.filename} has no dataset 'features', only {names or 'nothing'}", expected="'features'")
    return found


def _make_column(file: h5py.File, name: str, rows: RowsToExport) -> h5py.Dataset:
    kind = rows.kinds[name]
    column = rows.table.columns[name]
    dtype: Any = {"text": _TEXT, "int": "<i8", "float": "<f8", "bool": "u1"}[kind]
    if column.dtype == object and kind in {"int", "bool"}:
        # Other tools read NaN as missing, but a float cannot represent every integer.
        fits = kind == "bool" or all(value is None or abs(value) <= 2**53 for value in column)
        dtype = "<f8" if fits else _TEXT
    place = (
        "labels"
        if name == "label"
        else f"columns/{quote(name, safe=' ') if name.strip('.') else name.replace('.', '%2E')}"
    )
    target = file.create_dataset(place, (rows.rows,), dtype)
    target.attrs["name"], target.attrs["kind"] = name, kind
    return target


def _stored(values: NDArray[Any], kind: Kind, target: h5py.Dataset, name: str) -> Any:
    if guarded.is_text(target):
        return _cells(values, name)
    if values.dtype == object:
        return np.array([np.nan if value is None else float(value) for value in values])
    return values


def _cells(values: Any, name: str) -> Any:
    cells = np.empty(len(values), object)
    try:
        cells[:] = [b"" if value is None else str(value).encode("utf-8", "surrogateescape") for value in values]
    except UnicodeEncodeError as error:
        raise InputError(f"{name!r} contains {error.object!r}, which is not valid Unicode") from error
    if any(b"\0" in cell for cell in cells):
        raise InputError(
            f"{name!r} contains a zero byte, which HDF5 text does not allow", remedy="write Parquet instead"
        )
    return cells


def _name(found: h5py.Dataset) -> str:
    name = guarded.word(found, "name")
    if name:
        return name
    return "label" if found.name == "/labels" else found.name.rsplit("/", 1)[-1]


def _column(found: h5py.Dataset, start: int, end: int) -> NDArray[Any]:
    kind = guarded.word(found, "kind")
    if guarded.is_text(found):
        cells = guarded.texts(found, start, end)
        return as_column([None if cell is None else int(cell) for cell in cells]) if kind == "int" else cells
    values = guarded.numbers(found, start, end)
    if kind not in {"int", "bool"}:
        return as_column(values)
    convert = int if kind == "int" else bool
    return as_column([None if value != value else convert(value) for value in values.tolist()])  # noqa: PLR0124 - NaN
