"""The layouts ``parquet`` (one table with a column of features) and ``clip`` (the folder of clip-retrieval).

``clip`` is a folder with ``img_emb/img_emb_<n>.npy`` (rows, width) and ``metadata/metadata_<n>.parquet``, whose column
``image_path`` names the images. Both describe the space, in the table's metadata or in ``space.json``.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.layouts.h5 import parse_spec
from penult.store.layouts.npy import NpyFile, write_npy
from penult.store.layouts.rows import Block, RowsToExport, block_rows
from penult.store.spec import FeatureType, SpaceSpec
from penult.store.tables.columns import Kind, as_column
from penult.store.tables.parquet_sheets import arrow, arrow_type, from_arrow, to_arrow

SHARD_ROWS = 65_536
_SPEC = b"penult.space"
_FEATURES = ("features", "embedding", "embeddings", "vector")
_PATHS = ("path", "image_path")


class Parquet:
    """Writes and reads one Parquet file with a column ``features``."""

    suffix = ".parquet"

    def write(self, rows: RowsToExport, path: Path) -> list[str]:
        """Writes all rows, a row group for each block."""
        pa = arrow()
        columns = _schema(pa, rows.kinds, "path")
        columns.append(pa.field("features", pa.list_(pa.float32(), rows.spec.width), nullable=False))
        schema = pa.schema(columns, metadata={_SPEC: json.dumps(rows.spec.to_json()).encode()})
        with pa.parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=list(rows.kinds)) as writer:
            for block in rows.blocks():
                arrays = _arrays(pa, block, rows.kinds)
                flat = pa.array(block.features.reshape(-1), pa.float32())
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, rows.spec.width))
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        return []

    def matches(self, path: Path) -> bool:
        """Whether the path is a file that ends in ``.parquet``."""
        return path.is_file() and path.suffix.lower() == ".parquet"

    def read(self, path: Path) -> "ParquetReader":
        """Opens a file for reading."""
        return ParquetReader(path)


class ParquetReader:
    """A Parquet file with a column of lists of numbers, from penult or another program."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrow = pa = arrow()
        self.notes: list[str] = []
        with _parquet(pa, path) as file:
            schema = file.schema_arrow
            found = [name for name in _FEATURES if name in schema.names]
            if not found:
                raise InputError(f"{path} has no column of features", expected=f"one of {', '.join(_FEATURES)}")
            self._features = found[0]
            kind = schema.field(self._features).type
            if not _is_list(pa, kind) or not pa.types.is_floating(kind.value_type):
                raise InputError(f"{path}: {self._features} contains {kind}", expected="lists of numbers")
            self.dtype: FeatureType = "float16" if pa.types.is_float16(kind.value_type) else "float32"
            self.rows = file.metadata.num_rows
            text = (schema.metadata or {}).get(_SPEC)
            self.spec: SpaceSpec | None = parse_spec(text, str(path)) if text else None
            self.width = self._first_width(file)

    def blocks(self) -> Iterator[Block]:
        """Yields the rows."""
        with _parquet(self._arrow, self._path) as file:
            for batch in _batches(file, block_rows(self.width)):
                yield self._block(batch)

    def _first_width(self, file: Any) -> int:
        for batch in file.iter_batches(batch_size=1, columns=[self._features]):
            return len(batch.column(0)[0] or ())
        return self.spec.width if self.spec else 0

    def _block(self, batch: Any) -> Block:
        lists = batch.column(batch.schema.get_field_index(self._features))
        lengths = self._arrow.compute.list_value_length(lists).to_numpy(zero_copy_only=False)
        values = lists.flatten()
        if values.null_count or not (lengths == self.width).all():
            raise InputError(
                f"{self._path}: {self._features} contains lists of different lengths, or missing values",
                expected=f"{self.width} numbers in each row",
            )
        features = values.to_numpy(zero_copy_only=False).reshape(-1, self.width)
        columns = {
            name: from_arrow(self._arrow, batch.column(place), f"{self._path}: {name}")
            for place, name in enumerate(batch.schema.names)
            if name != self._features
        }
        return block_of(features, columns, str(self._path))


class ClipRetrieval:
    """Writes and reads the folders of clip-retrieval: ``.npy`` shards with Parquet metadata."""

    suffix = ""

    def write(self, rows: RowsToExport, folder: Path) -> list[str]:
        """Writes shards with equal numbers of rows."""
        pa = arrow()
        for name in ("img_emb", "metadata"):
            (folder / name).mkdir(parents=True)
        (folder / "space.json").write_text(json.dumps(rows.spec.to_json()), encoding="utf-8")
        schema = pa.schema(_schema(pa, rows.kinds, "image_path"))
        blocks = rows.blocks()
        shard_rows = max(1, SHARD_ROWS // block_rows(rows.spec.width)) * block_rows(rows.spec.width)
        for number, start in enumerate(range(0, rows.rows, shard_rows)):
            count = min(shard_rows, rows.rows - start)
            shape = (count, rows.spec.width)
            with (
                write_npy(folder / "img_emb" / f"img_emb_{number}.npy", rows.spec.dtype, shape) as put,
                pa.parquet.ParquetWriter(folder / "metadata" / f"metadata_{number}.parquet", schema) as writer,
            ):
                while count:
                    block = next(blocks)
                    put(block.features)
                    writer.write_table(pa.Table.from_arrays(_arrays(pa, block, rows.kinds), schema=schema))
                    count -= len(block)
        return []

    def matches(self, path: Path) -> bool:
        """Whether the path is a folder that contains ``img_emb``."""
        return (path / "img_emb").is_dir()

    def read(self, path: Path) -> "ClipReader":
        """Opens a folder for reading."""
        return ClipReader(path)


class ClipReader:
    """A folder of shards; each ``.npy`` shard needs its metadata."""

    def __init__(self, folder: Path) -> None:
        self._arrow = arrow()
        self.notes: list[str] = []
        self._shards = []
        for path in sorted((folder / "img_emb").glob("img_emb_*.npy")):
            metadata = folder / "metadata" / f"metadata_{path.stem.removeprefix('img_emb_')}.parquet"
            if not metadata.is_file():
                raise InputError(f"{path} needs {metadata}, which is missing", expected="metadata for each shard")
            self._shards.append((NpyFile(path), metadata))
        if not self._shards and not (folder / "space.json").is_file():
            raise InputError(f"{folder / 'img_emb'} contains no shard", expected="img_emb_0.npy, …")
        self.spec = None
        if (folder / "space.json").is_file():
            self.spec = parse_spec((folder / "space.json").read_bytes(), str(folder / "space.json"))
        self.rows = sum(shard.rows for shard, _ in self._shards)
        self.width = self._shards[0][0].width if self._shards else self.spec.width if self.spec else 0
        self.dtype: FeatureType = self._shards[0][0].dtype if self._shards else "float32"

    def blocks(self) -> Iterator[Block]:
        """Yields the rows."""
        size = block_rows(self.width)
        for shard, metadata in self._shards:
            with _parquet(self._arrow, metadata) as file:
                if file.metadata.num_rows != shard.rows:
                    raise InputError(f"{metadata} has {file.metadata.num_rows} rows", expected=f"{shard.rows}")
                for batch in _batches(file, size):
                    columns = {
                        name: from_arrow(self._arrow, batch.column(place), f"{metadata}: {name}")
                        for place, name in enumerate(batch.schema.names)
                    }
                    yield block_of(shard.take(batch.num_rows), columns, str(metadata))


def block_of(features: NDArray[Any], values: Mapping[str, NDArray[Any]], where: str) -> Block:
    """Returns a block of features and columns; takes the keys and paths from their columns."""
    columns = dict(values)
    cells = columns.pop("key", None)
    keys = None
    if cells is not None:
        try:
            keys = np.frombuffer(b"".join(map(bytes.fromhex, cells)), np.uint8).reshape(len(features), 16)
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: 'key' contains values that are not keys", expected="16 bytes each") from error
    found = next((name for name in _PATHS if name in columns), None)
    paths = None if found is None else tuple(str(cell) if cell else "" for cell in columns.pop(found))
    return Block(features, keys, paths, columns)


def _schema(pa: Any, kinds: Mapping[str, Kind], path_name: str) -> list[Any]:
    columns = [pa.field("key", pa.binary(16)), pa.field(path_name, pa.string())]
    return columns + [pa.field(name, arrow_type(pa, kind)) for name, kind in kinds.items()]


def _arrays(pa: Any, block: Block, kinds: Mapping[str, Kind]) -> list[Any]:
    assert block.keys is not None
    keys = pa.array([key.tobytes() for key in block.keys], pa.binary(16))
    paths = to_arrow(pa, "path", as_column(list(block.paths or ())), "text")
    return [keys, paths, *(to_arrow(pa, name, block.columns[name], kind) for name, kind in kinds.items())]


def _parquet(pa: Any, path: Path) -> Any:
    try:
        return pa.parquet.ParquetFile(path, buffer_size=1 << 20)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is not a Parquet file: {error}") from error


def _batches(file: Any, rows: int) -> Iterator[Any]:
    # Reads one group at a time, because a reader of all groups keeps them in memory until the end.
    for group in range(file.num_row_groups):
        yield from file.iter_batches(rows, row_groups=[group], use_threads=False)


def _is_list(pa: Any, kind: Any) -> bool:
    return any(is_kind(kind) for is_kind in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))
