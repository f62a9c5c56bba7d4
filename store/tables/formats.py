"""Reads and writes tables as CSV or Parquet, chosen by the file extension."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from penult.errors import InputError, MissingFileError
from penult.store.files.local import LocalPath, temporary_name
from penult.store.keys import KEY_BYTES, key_array
from penult.store.tables.columns import Kind, as_column
from penult.store.tables.csv_sheets import read_csv, write_csv
from penult.store.tables.parquet_sheets import read_parquet, write_parquet
from penult.store.tables.sheets import Sheet
from penult.store.tables.table import Table

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")


def read_table(path: str | Path, *, kinds: Mapping[str, Kind] | None = None, encoding: str | None = None) -> Sheet:
    """Reads a table from a file, before its rows are matched to images.

    ``kinds`` sets the kind of CSV columns that would be misread, such as codes made of digits.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"There is no table {path}", expected="a CSV or Parquet file")
    if _suffix(path) == ".parquet":
        return read_parquet(path)
    return read_csv(path, kinds=kinds, encoding=encoding)


def write_table(path: str | Path, table: Table) -> None:
    """Writes ``key`` in hexadecimal, ``path`` and all columns; replaces a file of this name in one step."""
    path = Path(path)
    write = write_parquet if _suffix(path) == ".parquet" else write_csv
    temporary = temporary_name(path.parent, path.suffix)
    try:
        write(temporary, _sheet_columns(table))
        LocalPath(path).publish(temporary)
    finally:
        with suppress(OSError):
            temporary.unlink()


def table_of(sheet: Sheet) -> Table:
    """Returns the table of a sheet that ``write_table`` wrote.

    A row without a path gets an empty one. An invalid key raises InputError with its line.
    """
    keys = key_array(keys_of(sheet, sheet.column("key")))
    paths = tuple("" if path is None else path for path in sheet.column("path"))
    columns = {name: values for name, values in sheet.columns.items() if name not in {"key", "path"}}
    return Table(keys, paths, columns)


def keys_of(sheet: Sheet, cells: NDArray[Any]) -> list[bytes]:
    """Returns hexadecimal cells as keys; an invalid one raises InputError with its line."""
    keys = []
    for row, cell in enumerate(cells):
        try:
            key = bytes.fromhex(cell)
        except (TypeError, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise InputError(f"{sheet.where(row)} has the key {cell!r}", expected="32 hexadecimal digits")
        keys.append(key)
    return keys


def _sheet_columns(table: Table) -> dict[str, NDArray[Any]]:
    return {
        "key": as_column([key.hex() for key in table.key_bytes()]),
        "path": as_column(list(table.paths)),
        **table.columns,
    }


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} has the extension {suffix or ''!r}", expected=f"one of {', '.join(SUFFIXES)}")
    return suffix
