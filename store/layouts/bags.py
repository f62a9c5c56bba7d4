"""The layouts of digital pathology, ``clam``, ``trident`` and ``stamp``: one HDF5 file for each slide.

A slide is a group of the dataset, and its images are patches. An image without a group is a slide with one patch. The
columns ``x`` and ``y`` become ``coords``; without them, ``coords`` contains zeros and an attribute that says so. Each
file also contains ``keys`` and ``paths``, which these programs ignore.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h5py
import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.layouts import guarded_hdf5 as guarded
from penult.store.layouts.h5 import read_spec
from penult.store.layouts.rows import Block, RowsToExport, block_rows, feature_type
from penult.store.spec import FeatureType, SpaceSpec
from penult.store.tables.columns import as_column, kind_of, missing_in
from penult.store.tables.table import Table

_TEXT = h5py.string_dtype("utf-8")
_LONGEST_STEM = 150
_PATCH = ("patch_size", "patch_size_level0", "level0_magnification")
UNKNOWN = "unknown: the dataset has no columns x and y"


@dataclass(frozen=True)
class Bags:
    """Writes and reads a folder with one file for each group."""

    name: str
    features: str
    chunk_rows: int
    coords: str
    suffix: str = ""

    def write(self, rows: RowsToExport, folder: Path) -> list[str]:
        """Writes a file for each group, in blocks."""
        folder.mkdir()
        table = rows.table
        coords = _coords(table)
        notes = [] if coords is not None else [f"coords are zeros in every file and marked '{UNKNOWN}'"]
        groups = _groups(table)
        if table.groups is None:
            notes.append("the dataset has no groups, so each image becomes a file with one row")
        for group, places in groups.items():
            with h5py.File(folder / f"{_stem(group)}.h5", "x") as file:
                file.create_dataset("space", data=json.dumps(rows.spec.to_json()), dtype=_TEXT)
                file.attrs["group"] = group
                self._write_bag(file, rows, places, coords)
                self._describe(file, group, rows.spec, table.select(places))
        return notes

    def matches(self, path: Path) -> bool:
        """Whether the first file of a folder has features of this name in chunks of this size."""
        first = next(iter(sorted(path.glob("*.h5"))), None) if path.is_dir() else None
        if first is None:
            return False
        with guarded.opened(first) as file:
            found = guarded.dataset(file, self.features)
            return found is not None and (found.chunks or (self.chunk_rows,))[0] == self.chunk_rows

    def read(self, path: Path) -> "BagsReader":
        """Opens a folder for reading."""
        return BagsReader(path)

    def _write_bag(
        self, file: h5py.File, rows: RowsToExport, places: NDArray[np.int64], coords: NDArray[Any] | None
    ) -> None:
        count, width = len(places), rows.spec.width
        file.create_dataset(
            self.features, (count, width), "<f4", chunks=(self.chunk_rows, width), maxshape=(None, width)
        )
        positions = np.zeros((count, 2), self.coords) if coords is None else coords[places].astype(self.coords)
        file.create_dataset("coords", data=positions, maxshape=(None, 2), chunks=True)
        file.create_dataset("keys", (count, 16), "u1")
        file.create_dataset("paths", (count,), _TEXT)
        start = 0
        for block in rows.blocks(places):
            here = slice(start, start + len(block))
            file[self.features][here], file["keys"][here] = block.features, block.keys
            file["paths"][here] = [path.encode("utf-8", "surrogateescape") for path in block.paths or ()]
            start = here.stop

    def _describe(self, file: h5py.File, group: str, spec: SpaceSpec, part: Table) -> None:
        if _coords(part) is None:
            file["coords"].attrs["meaning"] = UNKNOWN
        if self.name == "stamp":
            file.attrs["extractor"] = spec.name
        if self.name == "trident":
            for target in (file[self.features], file["coords"]):
                target.attrs["name"], target.attrs["savetodir"] = group, "."
            file[self.features].attrs["encoder"] = spec.name
            for word in _PATCH:
                values = set(part.columns[word].tolist()) if word in part.columns else set()
                if len(values) == 1:
                    file["coords"].attrs[word] = values.pop()


Clam = partial(Bags, "clam", "features", 32, "<i4")
Trident = partial(Bags, "trident", "features", 1, "<i8")
Stamp = partial(Bags, "stamp", "feats", 128, "<f4")


class BagsReader:
    """A folder of HDF5 files with ``features`` or ``feats``; each file is a group."""

    def __init__(self, folder: Path) -> None:
        self.notes: list[str] = []
        self._files = sorted(folder.glob("*.h5"))
        self.rows, self.width = 0, 0
        self.dtype: FeatureType = "float16"
        self.spec: SpaceSpec | None = None
        for path in self._files:
            with guarded.opened(path) as file:
                self._check(file, path)

    def blocks(self) -> Iterator[Block]:
        """Yields the rows of one file after the other."""
        size = block_rows(self.width)
        for path in self._files:
            with guarded.opened(path) as file:
                features = _features(file, path)
                coords, keys, paths = (guarded.dataset(file, name) for name in ("coords", "keys", "paths"))
                is_known = coords is not None and not guarded.word(coords, "meaning")
                group = file.attrs.get("group")
                for start in range(0, len(features), size):
                    end = min(start + size, len(features))
                    columns = {"group": as_column([group if isinstance(group, str) else path.stem] * (end - start))}
                    if is_known and coords is not None:
                        positions = guarded.numbers(coords, start, end)
                        columns |= {name: as_column(positions[:, axis]) for axis, name in enumerate("xy")}
                    yield Block(
                        features[start:end],
                        None if keys is None else guarded.numbers(keys, start, end),
                        tuple(f"{path.stem}:{row}" for row in range(start, end))
                        if paths is None
                        else tuple(cell or "" for cell in guarded.texts(paths, start, end)),
                        columns,
                    )

    def _check(self, file: h5py.File, path: Path) -> None:
        features = _features(file, path)
        dtype = feature_type(features.dtype, features.shape, f"{path}: {features.name}")
        spec = read_spec(file)
        if self.width and (features.shape[1] != self.width or spec != self.spec):
            raise InputError(f"{path} contains rows of another space than {self._files[0]}", expected="one space")
        for name, shape in (("coords", 2), ("keys", 16), ("paths", None)):
            found = guarded.dataset(file, name)
            if found is not None and found.shape != (features.shape[0], *([shape] if shape else [])):
                raise InputError(f"{path}: {name} has the shape {found.shape}", expected=f"{features.shape[0]} rows")
            if name == "keys" and found is not None and found.dtype != np.uint8:
                raise InputError(f"{path}: keys contains {found.dtype}", expected="uint8")
        self.rows, self.width, self.spec = self.rows + features.shape[0], features.shape[1], spec
        if dtype == "float32":
            self.dtype = "float32"


def _features(file: h5py.File, path: Path) -> h5py.Dataset:
    found = guarded.dataset(file, "features", "feats")
    if found is None:
        raise InputError(f"{path} has no dataset 'features' or 'feats'", expected="the features of a slide")
    return found


def _coords(table: Table) -> NDArray[Any] | None:
    if not {"x", "y"} <= set(table.columns):
        return None
    pair = [table.columns[name] for name in "xy"]
    if any(kind_of(column) not in {"int", "float"} or missing_in(column).any() for column in pair):
        raise InputError("The columns x and y contain values that are not positions", expected="a number in each row")
    return np.stack(pair, axis=1)


def _groups(table: Table) -> dict[str, NDArray[np.int64]]:
    names = [Path(path).stem or key.hex() for path, key in zip(table.paths, table.key_bytes(), strict=True)]
    groups = [None] * len(table) if table.groups is None else table.groups.tolist()
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        if group is not None:
            rows.setdefault(str(group), []).append(row)
    for row, group in enumerate(groups):
        if group is None:
            own = names[row]
            while own in rows:  # two images with one name in different folders
                own += "_"
            rows[own] = [row]
    return {name: np.array(places, np.int64) for name, places in rows.items()}


def _stem(group: str) -> str:
    """Returns a file name for a group that stays in its folder on every system."""
    quoted = quote(group, safe=" ()+,;=@", errors="surrogatepass")
    if quoted != quoted.strip(" ."):
        quoted = quoted.replace(" ", "%20").replace(".", "%2E")
    if len(quoted) > _LONGEST_STEM:
        quoted = f"{quoted[:_LONGEST_STEM]}-{sha256(group.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return quoted
