"""Imports rows from files of other programs into a space: finds their keys and adds them shard by shard."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.keys import Keys, key_array, key_of
from penult.store.layouts.rows import Block, FeatureReader, block_rows
from penult.store.spaces.space import Space
from penult.store.spec import SpaceSpec
from penult.store.tables.columns import as_column
from penult.store.tables.table import Table


def spec_of(reader: FeatureReader, backbone: str | None, where: str) -> SpaceSpec:
    """Returns the space that a file describes, or else a space of its own under the name ``backbone``.

    The fingerprint of the latter is a hash of the name, so all files of that name share one space, which never is the
    space of one of penult's backbones.
    """
    if reader.spec is not None:
        if backbone not in {None, reader.spec.backbone}:
            raise InputError(f"{where} states the backbone {reader.spec.backbone}", expected=f"{backbone!r}")
        if reader.width != reader.spec.width:
            raise InputError(
                f"{where} contains rows of {reader.width} numbers",
                expected=f"{reader.spec.width}, as its own description says",
            )
        return reader.spec
    if backbone is None:
        raise InputError(
            f"{where} does not say what made its features",
            expected="the description of a space, or the name of a backbone",
            remedy="name the backbone that made them; all files with that name share one space",
        )
    fingerprint = sha256(b"features of another program\0" + backbone.encode()).hexdigest()
    return SpaceSpec(backbone, fingerprint, "features", reader.width, dtype=reader.dtype)


class RowImporter:
    """Adds blocks of rows to a space, one shard at a time, and collects their columns."""

    def __init__(self, space: Space, *, images: Path | None, where: str) -> None:
        self._space, self._images, self._where = space, images, where
        self._waiting: list[tuple[Keys, NDArray[np.float32]]] = []
        self._columns: list[tuple[Keys, tuple[str, ...], dict[str, NDArray[Any]]]] = []
        self._invented = 0
        self.rows = 0

    @property
    def notes(self) -> list[str]:
        """Sentences on the imported rows that a user should know."""
        if not self._invented:
            return []
        return [
            f"{self._invented} rows have keys made from their names, because no images were given; "
            "once extracted, the images themselves get other keys"
        ]

    def take(self, block: Block) -> None:
        """Adds the rows of a block; they are durable after the next ``commit`` at the latest."""
        names = block.paths or tuple(f"{self._where}:{self.rows + row}" for row in range(len(block)))
        keys = self._keys(names) if block.keys is None else key_array(block.keys)
        self._waiting.append((keys, np.asarray(block.features, np.float32)))
        self._columns.append((keys, names if block.paths else ("",) * len(names), dict(block.columns)))
        self.rows += len(block)
        if sum(len(waiting) for waiting, _ in self._waiting) >= block_rows(self._space.spec.width):
            self.commit()

    def commit(self) -> None:
        """Adds all waiting rows to the space."""
        if self._waiting:
            keys = np.concatenate([keys for keys, _ in self._waiting])
            self._space.add(keys, np.concatenate([features for _, features in self._waiting]))
        self._waiting = []

    def table(self) -> Table:
        """Returns the columns of all rows; rows of a file without a column have missing values there."""
        names = list(dict.fromkeys(name for _, _, columns in self._columns for name in columns))
        columns = {}
        for name in names:
            cells: list[Any] = []
            for keys, _, values in self._columns:
                cells += values[name].tolist() if name in values else [None] * len(keys)
            columns[name] = as_column(cells, name=name)
        keys = key_array(np.concatenate([np.empty((0, 16), np.uint8), *(keys for keys, _, _ in self._columns)]))
        return Table(keys, tuple(path for _, paths, _ in self._columns for path in paths), columns)

    def _keys(self, names: Sequence[str]) -> Keys:
        if self._images is None:
            self._invented += len(names)
            return key_array(key_of(b"name of a row\0" + name.encode("utf-8", "surrogatepass")) for name in names)
        return key_array(key_of(self._image(name).read_bytes()) for name in names)

    def _image(self, name: str) -> Path:
        assert self._images is not None
        folder = self._images.resolve()
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            raise InputError(f"{self._where} names the image {name!r}", expected=f"an image inside {folder}")
        if not path.is_file():
            raise InputError(
                f"{self._where} names {name!r}, but {path} does not exist", expected="an image with this name"
            )
        return path
