"""Features in other people's layouts: written from a store, and read into one."""

import os
import shutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from penult.errors import InputError, MissingFileError, StoreWriteError, UnknownNameError
from penult.store.catalog.datasets import Dataset
from penult.store.files.durable import publish, temporary_name
from penult.store.layouts.intake import Intake, spec_of
from penult.store.layouts.rows import Incoming, Outgoing, Progress
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
    "npy": "penult.store.layouts.npy_folder:NpyFolder",
}
"""The layouts, in the order in which a file or folder is asked whether it is one."""


MANY_FILES = 1000


class Layout(Protocol):
    """One way to lay out features on disk; ``suffix`` is that of its file, empty of a folder."""

    suffix: str

    def write(self, rows: Outgoing, path: Path) -> list[str]:
        """Writes rows to a new file or folder, and returns what is worth telling."""

    def fits(self, path: Path) -> bool:
        """Whether a file or folder is of this layout."""

    def read(self, path: Path) -> Incoming:
        """Opens a file or folder to be read."""


@dataclass(frozen=True)
class Exported:
    """What was written; ``left_out`` counts the rows of the dataset that have no features in the space."""

    path: Path
    layout: str
    rows: int
    left_out: int
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Imported:
    """What was read, into which space, and the dataset of what stood beside the features."""

    space: Space
    layout: str
    rows: int
    dataset: Dataset | None
    notes: tuple[str, ...]


def layout_named(name: str) -> Layout:
    """Returns the layout of a name."""
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
    """Writes the rows of one space to a new file or folder, in blocks: those of a dataset, or all there are.

    The destination appears when it is whole. Features are written as float32, exactly as ``load`` gives them, and in
    the space's own type where the layout is of ``.npy`` files.
    """
    target, path = layout_named(layout), Path(destination).absolute()
    if path.exists():
        raise InputError(f"{path} is there already", expected="a new name", remedy="remove it, or choose another")
    if target.suffix and path.suffix.lower() != target.suffix:
        raise InputError(f"{path} does not end in {target.suffix}", expected=f"a name that does, as layout {layout!r}")
    chosen = _only_space(store) if space is None else space
    left_out = 0
    if dataset is not None:
        dataset, left_out = _with_features(chosen, dataset)
    rows = Outgoing(chosen, dataset, store.catalog.files, progress)
    _check_room(path.parent, rows)
    temporary = temporary_name(path.parent, target.suffix)
    try:
        notes = target.write(rows, temporary)
        _make_durable(temporary)
        publish(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if temporary.is_file():
            temporary.unlink()
    if left_out:
        notes = [*notes, f"{left_out} rows of the dataset have no features in {chosen.spec.name} and are left out"]
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
    """Reads features into the space that the file names, or into one of their own, called after ``backbone``.

    Rows whose file tells no keys take those of the images that they are named after, in the folder ``images``; else
    keys made of their names. Paths, labels and other columns become the dataset ``dataset``, by default of the
    source's name. Reading the same file again changes nothing.
    """
    path = Path(source).absolute()
    name, incoming = _opened(path, layout)
    space = store.space(spec_of(incoming, backbone, str(path)))
    intake = Intake(space, images=None if images is None else Path(images), where=path.name)
    for block in incoming.blocks():
        intake.take(block)
        if progress:
            progress(intake.rows, incoming.rows)
    intake.commit()
    space.checkpoint()
    table = intake.table()
    saved = None
    if dataset or table.columns or any(table.paths):
        saved = store.catalog.datasets.save(dataset or path.stem, table)
    return Imported(space, name, intake.rows, saved, (*incoming.notes, *intake.notes))


def _opened(path: Path, name: str | None) -> tuple[str, Incoming]:
    if not path.exists():
        raise MissingFileError(f"There is nothing at {path}", expected="a file or folder of features")
    if name is None:
        name = next((known for known in LAYOUTS if layout_named(known).fits(path)), None)
    if name is None:
        raise InputError(f"{path} is of no known layout", expected=f"one of {', '.join(LAYOUTS)}")
    return name, layout_named(name).read(path)


def _only_space(store: Store) -> Space:
    spaces = store.spaces()
    if len(spaces) != 1:
        names = ", ".join(space.spec.name for space in spaces)
        raise InputError(
            f"The store has {len(spaces)} spaces{': ' if names else ''}{names}",
            expected="one" if not spaces else "one to be named",
            remedy="run extract first" if not spaces else "name the space",
        )
    return spaces[0]


def _with_features(space: Space, table: Table) -> tuple[Table, int]:
    lacking = {key.tobytes() for key in space.missing(table.keys)}
    if not lacking:
        return table, 0
    has_row = np.array([key not in lacking for key in table.key_bytes()])
    return table.select(has_row), int((~has_row).sum())


def _check_room(folder: Path, rows: Outgoing) -> None:
    # HDF5 may end the process when the disk runs full, so what will not fit is not begun.
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
    if len(files) > MANY_FILES and hasattr(os, "sync"):  # which waits once for all of them
        os.sync()
        return
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
