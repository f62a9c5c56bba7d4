"""Reads and writes CSV, as spreadsheets, scripts and people produce it."""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.tables.columns import Kind
from penult.store.tables.sheets import Sheet, column_names, typed

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, because it starts with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DELIMITERS = ",;\t|"
_SAMPLE = 1 << 14


def read_csv(path: Path, *, kinds: Mapping[str, Kind] | None = None, encoding: str | None = None) -> Sheet:
    """Reads a CSV file with a header line, in UTF-8, in UTF-16 with a byte order mark, or in ``encoding``.

    It detects commas, semicolons, tabs and bars as separators and skips empty lines. An empty cell is a missing value.
    """
    source = str(path)
    text = _decoded(path.read_bytes(), source, encoding)
    delimiter, first = _delimiter(text, path.suffix.lower() == ".tsv")
    records = _records(text, delimiter, source, first)
    header = next(records, None)
    if header is None:
        raise InputError(f"{source} is empty", expected="a line with column names, and a line for each image")
    names = header[1]
    while names and not names[-1].strip():
        names.pop()
    names = column_names(names, source)
    if "" in names:
        raise InputError(f"Column {names.index('') + 1} of {source} has no name", expected="a name for each column")
    lines, rows = [], []
    for line, cells in records:
        if len(cells) > len(names) and not any(cells[len(names) :]):
            del cells[len(names) :]
        if len(cells) != len(names):
            raise InputError(
                f"{source}, line {line} has {len(cells)} cells",
                expected=f"{len(names)}, as in the first line: {', '.join(names)}",
                remedy="put a cell that contains the separator into quotes",
            )
        lines.append(line)
        rows.append(cells)
    columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(names, ())
    return Sheet(source, _typed(source, columns, lines, kinds or {}), np.array(lines, np.int64))


def write_csv(path: Path, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> None:
    """Writes columns as CSV in UTF-8 with commas; a missing value is an empty cell."""
    # A file name may contain bytes that are not valid UTF-8; they are written unchanged.
    with path.open("x", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*([_cell(value) for value in values] for values in columns.values()), strict=True))


def _cell(value: Any) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN differs from itself
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return repr(float(value)) if isinstance(value, float) else str(value)


def _decoded(data: bytes, source: str, encoding: str | None) -> str:
    for mark, name in _MARKS:
        if data.startswith(mark):
            data, encoding = data[len(mark) :], name
            break
    # With an explicit "utf-8", bytes of file names that are not valid UTF-8 are kept.
    errors = "surrogateescape" if encoding == "utf-8" else "strict"
    try:
        text = data.decode(encoding or "utf-8", errors)
    except LookupError as error:
        raise InputError(f"There is no encoding {encoding!r}", expected="utf-8, utf-16, cp1252, …") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        shown = (
            data[data.rfind(b"\n", 0, error.start) + 1 :].split(b"\n", 1)[0].decode("cp1252", "replace").strip()[:100]
        )
        raise InputError(
            f"{source}, line {line} is not in {encoding or 'UTF-8'}",
            expected="UTF-8, or UTF-16 with a byte order mark",
            remedy=f"save the file as 'CSV UTF-8', or give its encoding: in cp1252 the line reads {shown!r}",
        ) from error
    if "\0" in text.partition("\n")[0]:
        raise InputError(
            f"The column names of {source} contain zero bytes",
            expected="text",
            remedy="give its encoding: it may be utf-16-le without a byte order mark",
        )
    return text


def _delimiter(text: str, is_tsv: bool) -> tuple[str, int]:
    """Returns the separator, and the number of lines before the header."""
    stated = re.match(r'"?sep=(.)"?\r?\n', text)  # Excel writes this line to state the separator
    if stated:
        return stated[1], 1
    if is_tsv:
        return "\t", 0

    def fit(delimiter: str) -> tuple[bool, int]:
        try:
            sample = csv.reader(io.StringIO(text[:_SAMPLE], newline=""), delimiter=delimiter)
            widths = [len(cells) for cells in sample if any(cells)]
        except csv.Error:
            return False, 0
        if len(text) > _SAMPLE and len(widths) > 1:
            widths.pop()  # the sample may end inside this line
        return len(set(widths)) == 1 and widths[0] > 1, widths[0] if widths else 0

    return max(_DELIMITERS, key=fit), 0


def _records(text: str, delimiter: str, source: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Yields each record that is not empty, with the number of its first line."""
    lines = io.StringIO(text, newline="")
    for _ in range(skipped):
        lines.readline()
    start = lines.tell()
    first = next(csv.reader([lines.readline()], delimiter=delimiter), [])
    lines.seek(start)
    has_blanks = len(first) > 1 and all(cell.startswith(" ") for cell in first[1:])
    # strict: otherwise an unclosed quote would turn the rest of the file into one cell.
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=has_blanks, strict=True)
    line = 1 + skipped
    try:
        for cells in reader:
            if any(cells):
                yield line, cells
            line = reader.line_num + 1 + skipped
    except csv.Error as error:
        raise InputError(
            f"{source}, line {line} cannot be read: {error}",
            expected="quotes around a whole cell, and a doubled quote inside it",
        ) from error


def _typed(
    source: str, columns: Mapping[str, Sequence[str]], lines: Sequence[int], kinds: Mapping[str, Kind]
) -> dict[str, Any]:
    typed_columns = {}
    for name, cells in columns.items():
        try:
            typed_columns[name] = typed(name, cells, kinds.get(name))
        except (ValueError, KeyError) as error:
            for line, cell in zip(lines, cells, strict=True):
                try:
                    typed(name, [cell], kinds.get(name))
                except (ValueError, KeyError):
                    raise InputError(
                        f"{source}, line {line}: {name!r} is {cell!r}", expected=f"a value of kind {kinds.get(name)}"
                    ) from error
            raise
    return typed_columns
