"""The layout ``npy``: a folder with one vector a file, named by its key, and ``table.csv`` beside them.

Of other people's folders it reads vectors and matrices; a ``file_names.txt`` or a ``.txt`` of the matrix's own name
says, line by line, which image each row is of.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from penult.errors import InputError
from penult.store.layouts.h5 import parse_spec
from penult.store.layouts.npy import NpyFile, write_npy
from penult.store.layouts.rows import Block, Outgoing, block_rows
from penult.store.spec import FeatureType, SpaceSpec
from penult.store.tables.formats import read_table, table_of, write_table

_LARGEST_NAMES_BYTES = 1 << 30


class NpyFolder:
    """Writes and reads a folder of ``.npy`` files."""

    suffix = ""

    def write(self, rows: Outgoing, folder: Path) -> list[str]:
        """Writes a file for each key, and a row of the table for each row."""
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

    def fits(self, path: Path) -> bool:
        """Whether a folder is of this layout: it holds a ``.npy`` file."""
        return path.is_dir() and any(True for _ in path.glob("*.npy"))

    def read(self, path: Path) -> "IncomingNpy":
        """Opens a folder to be read."""
        return IncomingNpy(path)


class IncomingNpy:
    """A folder of ``.npy`` files, in the order of their names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.notes: list[str] = []
        self._files = [NpyFile(path) for path in sorted(folder.glob("*.npy"))]
        self.spec: SpaceSpec | None = None
        if (folder / "space.json").is_file():
            self.spec = parse_spec((folder / "space.json").read_bytes(), str(folder / "space.json"))
        widths = {file.width for file in self._files}
        if len(widths) > 1:
            raise InputError(f"{folder} holds rows of {len(widths)} widths", expected="one width")
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
                raise InputError(f"{lacking} is not there", expected="a file for each row of table.csv")
            features = np.concatenate([NpyFile(path).take(1) for path in paths])
            yield Block(features, part.keys, part.paths, part.columns)

    def _names(self, file: NpyFile) -> list[str]:
        if file.rows == 1:
            return [file.path.stem]
        for path in (file.path.with_suffix(".txt"), self._folder / "file_names.txt"):
            if path.is_file() and path.stat().st_size <= _LARGEST_NAMES_BYTES:
                names = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
                if len(names) != file.rows:
                    raise InputError(f"{path} names {len(names)} images", expected=f"{file.rows}, as {file.path} has")
                return names
        return [f"{file.path.stem}:{row}" for row in range(file.rows)]
