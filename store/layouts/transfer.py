"""Exports features from a store to files of other programs, and imports features from them."""

import os
import shutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from penult.errors import InputError, MissingFileError, StoreWriteError, UnknownNameError
from penult.store.catalog.datasets import Dataset
from penult.store.files.local import LocalPath, temporary_name
from penult.store.layouts.importing import RowImporter, spec_of
from penult.store.layouts.rows import FeatureReader, Progress, RowsToExport
from penult.store.spaces.space import Space
from penult.store.stores import Store
from penult.store.tables.table import Table

LAYOUTS = {
    "h5": "penult.store.layouts.h5:PlainH5",
    "parquet": "penult.store.layouts.arrow:Parquet",
    "clip": "penult.store.layouts.arrow:ClipRetrieval",
    "clam": "penult.store.layouts.bags:Clam",
    "trident": "penult.store.layouts.bags:Trident",
    "stamp": "penult.store.layouts.bags:Stamp",
    "npy": "penult.store.layouts.npy:NpyFolder",
}
"""The class of each layout; the import tries them in this order."""

MANY_FILES = 1000


class Layout(Protocol):
    """A file layout for features; ``suffix`` is the extension of its file, or "" for a folder."""

    suffix: str

    def write(self, rows: RowsToExport, path: Path) -> list[str]:
        """Writes rows to a new file or folder, and returns notes for the user."""

    def matches(self, path: Path) -> bool:
        """Whether a file or folder has this layout."""

    def read(self, path: Path) -> FeatureReader:
        """Opens a file or folder for reading."""


@dataclass(frozen=True)
class Exported:
    """The result of an export; ``left_out`` counts the rows of the dataset without features in the space."""

    path: Path
    layout: str
    rows: int
    left_out: int
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Imported:
    """The result of an import: the space, the number of rows, and the dataset of the other columns."""

    space: Space
    layout: str
    rows: int
    dataset: Dataset | None
    notes: tuple[str, ...]


def layout_named(name: str) -> Layout:
    """Returns the layout with this name."""
    if name not in LAYOUTS:
        raise UnknownNameError.among("layout", name, LAYOUTS)
    module, kind = LAYOUTS[name].split(":")
    return cast("Layout", getattr(import_module(module), kind)())


def export_store(
    store: Store,
    destination: str | Path,
    *,
    layout: str = "h5",
    space: Space | None = None,
    dataset: Table | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Writes the rows of one space to a new file or folder: those of a dataset, or all.

    The destination appears when it is complete. Features are float32, exactly as ``load`` returns them; ``.npy`` files
    have the dtype of the space.
    """
    target, path = layout_named(layout), Path(destination).absolute()
    if path.exists():
        raise InputError(f"{path} exists already", expected="a new name", remedy="remove it, or choose another name")
    if target.suffix and path.suffix.lower() != target.suffix:
        raise InputError(
            f"{path} does not end in {target.suffix}", expected=f"a name that does, for the layout {layout!r}"
        )
    chosen = _only_space(store) if space is None else space
    left_out = 0
    if dataset is not None:
        dataset, left_out = _with_features(chosen, dataset)
    rows = RowsToExport(chosen, dataset, store.catalog.files, progress)
    _check_space(path.parent, rows)
    temporary = temporary_name(path.parent, target.suffix)
    try:
        notes = target.write(rows, temporary)
        _make_durable(temporary)
        LocalPath(path).publish(temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if temporary.is_file():
            temporary.unlink()
    if left_out:
        notes = [*notes, f"{left_out} rows of the dataset have no features in {chosen.spec.name} and were left out"]
    return Exported(path, layout, rows.rows, left_out, tuple(notes))


def import_store(
    store: Store,
    source: str | Path,
    *,
    layout: str | None = None,
    backbone: str | None = None,
    images: str | Path | None = None,
    dataset: str | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Reads features into the space that the file describes, or else into a new space named after ``backbone``.

    Rows without keys get the keys of their images in the folder ``images``, or else keys made from their names. Paths,
    labels and other columns become the dataset ``dataset``, named after the source by default. Importing a file again
    changes nothing.
    """
    path = Path(source).absolute()
    name, reader = _opened(path, layout)
    space = store.space(spec_of(reader, backbone, str(path)))
    importer = RowImporter(space, images=None if images is None else Path(images), where=path.name)
    for block in reader.blocks():
        importer.take(block)
        if progress:
            progress(importer.rows, reader.rows)
    importer.commit()
    space.checkpoint()
    table = importer.table()
    saved = None
    if dataset or table.columns or any(table.paths):
        saved = store.catalog.datasets.save(dataset or path.stem, table)
    return Imported(space, name, importer.rows, saved, (*reader.notes, *importer.notes))


def _opened(path: Path, name: str | None) -> tuple[str, FeatureReader]:
    if not path.exists():
        raise MissingFileError(f"{path} does not exist", expected="a file or folder of features")
    if name is None:
        name = next((known for known in LAYOUTS if layout_named(known).matches(path)), None)
    if name is None:
        raise InputError(f"{path} has no known layout", expected=f"one of {', '.join(LAYOUTS)}")
    return name, layout_named(name).read(path)


def _only_space(store: Store) -> Space:
    spaces = store.spaces()
    if len(spaces) != 1:
        names = ", ".join(space.spec.name for space in spaces)
        raise InputError(
            f"The store has {len(spaces)} spaces{': ' if names else ''}{names}",
            expected="one space" if not spaces else "the name of one space",
            remedy="run extract first" if not spaces else "name the space",
        )
    return spaces[0]


def _with_features(space: Space, table: Table) -> tuple[Table, int]:
    lacking = {key.tobytes() for key in space.missing(table.keys)}
    if not lacking:
        return table, 0
    has_row = np.array([key not in lacking for key in table.key_bytes()])
    return table.select(has_row), int((~has_row).sum())


def _check_space(folder: Path, rows: RowsToExport) -> None:
    # HDF5 can kill the process on a full disk, so the export checks the free space first.
    needed = rows.rows * (4 * rows.spec.width + 600) + (1 << 20)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreWriteError(
            f"{folder} has {free >> 20} MiB free",
            expected=f"{needed >> 20} MiB for the export",
            remedy="free some space",
        )


def _make_durable(path: Path) -> None:
    files = [path] if path.is_file() else [entry for entry in path.rglob("*") if entry.is_file()]
    if len(files) > MANY_FILES and hasattr(os, "sync"):  # one sync is faster than many
        os.sync()
        return
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
