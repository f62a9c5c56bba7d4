"""Rows from other people's files on their way into a space: given keys, gathered into whole shards, remembered."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.keys import Keys, key_array, key_of
from penult.store.layouts.rows import Block, Incoming, block_rows
from penult.store.spaces.space import Space
from penult.store.spec import SpaceSpec
from penult.store.tables.columns import as_column
from penult.store.tables.table import Table


def spec_of(incoming: Incoming, backbone: str | None, where: str) -> SpaceSpec:
    """Returns the space that a file names; of one that names none, a space of its own under the name ``backbone``.

    Its fingerprint is derived from the name, so that files of one maker come into one space and never into that of a
    backbone of ours.
    """
    if incoming.spec is not None:
        if backbone not in {None, incoming.spec.backbone}:
            raise InputError(f"{where} says that {incoming.spec.backbone} made it", expected=f"not {backbone!r}")
        if incoming.width != incoming.spec.width:
            raise InputError(
                f"{where} holds rows of {incoming.width} numbers", expected=f"{incoming.spec.width}, as it says itself"
            )
        return incoming.spec
    if backbone is None:
        raise InputError(
            f"{where} does not say what made its features",
            expected="the description of a space, or a name for the backbone",
            remedy="name the backbone that made them; all files of that name come into one space",
        )
    fingerprint = sha256(b"features of another program\0" + backbone.encode()).hexdigest()
    return SpaceSpec(backbone, fingerprint, "features", incoming.width, dtype=incoming.dtype)


class Intake:
    """Takes blocks, adds their rows to a space a shard at a time, and keeps what stands beside them."""

    def __init__(self, space: Space, *, images: Path | None, where: str) -> None:
        self._space, self._images, self._where = space, images, where
        self._waiting: list[tuple[Keys, NDArray[np.float32]]] = []
        self._beside: list[tuple[Keys, tuple[str, ...], dict[str, NDArray[Any]]]] = []
        self._invented = 0
        self.rows = 0

    @property
    def notes(self) -> list[str]:
        """What is worth telling of the rows taken so far."""
        if not self._invented:
            return []
        return [
            f"{self._invented} rows have keys made of their names: no image of theirs was given, so the images "
            "themselves, once extracted, come under keys of their own"
        ]

    def take(self, block: Block) -> None:
        """Takes the rows of a block; they are durable after the next ``commit``, at the latest."""
        names = block.paths or tuple(f"{self._where}:{self.rows + row}" for row in range(len(block)))
        keys = self._keys(names) if block.keys is None else key_array(block.keys)
        self._waiting.append((keys, np.asarray(block.features, np.float32)))
        self._beside.append((keys, names if block.paths else ("",) * len(names), dict(block.columns)))
        self.rows += len(block)
        if sum(len(waiting) for waiting, _ in self._waiting) >= block_rows(self._space.spec.width):
            self.commit()

    def commit(self) -> None:
        """Adds all rows that wait."""
        if self._waiting:
            keys = np.concatenate([keys for keys, _ in self._waiting])
            self._space.add(keys, np.concatenate([features for _, features in self._waiting]))
        self._waiting = []

    def table(self) -> Table:
        """Returns what stood beside the rows; a column that some files lack is missing in their rows."""
        names = list(dict.fromkeys(name for _, _, columns in self._beside for name in columns))
        columns = {}
        for name in names:
            cells: list[Any] = []
            for keys, _, beside in self._beside:
                cells += beside[name].tolist() if name in beside else [None] * len(keys)
            columns[name] = as_column(cells, name=name)
        keys = key_array(np.concatenate([np.empty((0, 16), np.uint8), *(keys for keys, _, _ in self._beside)]))
        return Table(keys, tuple(path for _, paths, _ in self._beside for path in paths), columns)

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
            raise InputError(f"{self._where} names the image {name!r}", expected=f"one within {folder}")
        if not path.is_file():
            raise InputError(f"{self._where} names {name!r}, and there is no {path}", expected="an image of this name")
        return path
