"""Reads and writes Parquet, which stores the kind of every column."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError, MissingExtraError
from penult.store.tables.columns import Kind, as_column, kind_of
from penult.store.tables.sheets import Sheet, column_names


def arrow() -> Any:
    """Returns pyarrow with its Parquet module, or raises the error that names the extra."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError.of("pyarrow", "parquet", "Parquet") from error
    return pyarrow


def read_parquet(path: Path) -> Sheet:
    """Reads a Parquet file; times become ISO 8601 text, and binary columns become hexadecimal text."""
    pa = arrow()
    try:
        # ParquetFile, because read_table would look for partitions in the names of the folders.
        table = pa.parquet.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is not a Parquet file: {error}") from error
    names = column_names(table.column_names, str(path))
    columns = {name: from_arrow(pa, table.column(place), f"{path}: {name}") for place, name in enumerate(names)}
    return Sheet(str(path), columns, np.arange(1, table.num_rows + 1), unit="row")


def write_parquet(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Writes columns as Parquet; ``key`` becomes binary with 16 bytes."""
    pa = arrow()
    table = pa.table({name: to_arrow(pa, name, values, kind_of(values)) for name, values in columns.items()})
    pa.parquet.write_table(table, path, compression="zstd")


def arrow_type(pa: Any, kind: Kind) -> Any:
    """Returns the Arrow type for a kind of column."""
    return {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}[kind]


def to_arrow(pa: Any, name: str, values: NDArray[Any], kind: Kind) -> Any:
    """Converts a column to Arrow, with nulls for missing values."""
    if name == "key":
        return pa.array([bytes.fromhex(value) for value in values], pa.binary(16))
    try:
        return pa.array(values, arrow_type(pa, kind), from_pandas=kind == "float")
    except UnicodeEncodeError as error:
        raise InputError(
            f"The column {name!r} contains {error.object!r}, which is not valid Unicode",
            remedy="rename the file, or write CSV, which keeps the bytes of such a name",
        ) from error


def from_arrow(pa: Any, column: Any, where: str) -> NDArray[Any]:
    """Converts an Arrow column to a column of a table."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if pa.types.is_floating(kind):
        return as_column(column.cast(pa.float64()).to_numpy(zero_copy_only=False), name=where)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return as_column([None if value is None else value.hex() for value in column.to_pylist()], name=where)
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        return as_column([None if value is None else value.isoformat() for value in column.to_pylist()], name=where)
    plain = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    if not any(is_kind(kind) for is_kind in plain):
        raise InputError(
            f"{where} contains values of type {kind}",
            expected="text, numbers, booleans or times",
            remedy="if an image has several labels, use one column of booleans for each label",
        )
    return as_column(column.to_pylist(), name=where)
