"""A sheet: named columns from a user's file, before its rows are matched to images."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.tables.columns import Kind, as_column
from penult.store.tables.table import KNOWN_COLUMNS

_TEXT_ALWAYS = ("key", "path", "split", "group")
_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
# An exponent needs a point or a sign: 12e3 is more likely a code than 12000. So is 007.
_NUMBER = re.compile(r"-?(inf|(0|[1-9][0-9]*)(\.[0-9]*([eE][+-]?[0-9]+)?|[eE][+-][0-9]+)?)")
_NO_NUMBER = frozenset({"nan", "NaN", "NA", "N/A", "null"})
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True, eq=False)
class Sheet:
    """Columns of equal length, and the line of each row in the file."""

    source: str
    columns: Mapping[str, NDArray[Any]]
    lines: NDArray[np.int64]
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        """Returns the file and line of a row, for an error message."""
        return f"{self.source}, {self.unit} {self.lines[row]}"

    def column(self, name: str) -> NDArray[Any]:
        """Returns one column, or raises the error that lists the columns."""
        if name not in self.columns:
            raise InputError(
                f"{self.source} has no column {name!r}",
                expected=f"one of {', '.join(self.columns) or 'none, the file has no columns'}",
                remedy=f"rename a column to {name!r}, or choose another column",
            )
        return self.columns[name]


def column_names(names: Sequence[str], source: str) -> list[str]:
    """Returns the trimmed column names, with known names in lower case; raises an error for a repeated name."""
    trimmed = [name.strip() for name in names]
    final = [low if (low := name.lower()) in KNOWN_COLUMNS and low not in trimmed else name for name in trimmed]
    twice = sorted({name for name in final if final.count(name) > 1})
    if twice:
        raise InputError(f"{source} has more than one column {twice[0]!r}", expected="each name once")
    return final


def typed(name: str, cells: Sequence[str], kind: Kind | None = None) -> NDArray[Any]:
    """Returns cells of text as a column of ``kind``, by default of the kind that fits all cells.

    An empty cell is a missing value. Numbers with a leading zero or a decimal comma stay text, because they may be
    codes.

    >>> typed("label", ["007", "8"]).tolist(), typed("label", ["7", "", "8"]).tolist()
    (['007', '8'], [7, None, 8])
    """
    filled = set(cells) - {""}
    kind = kind or ("text" if name in _TEXT_ALWAYS else _kind(filled))
    convert = {text: _value(text, kind) for text in filled}
    convert[""] = None
    values = [convert[cell] for cell in cells]
    if kind == "float":
        values = [np.nan if value is None else value for value in values]
    return as_column(np.array(values, np.float64) if kind == "float" else values, name=name)


def _kind(filled: set[str]) -> Kind:
    numbers = filled - _NO_NUMBER
    if numbers and all(_WHOLE.fullmatch(text) and abs(int(text)) < 2**63 for text in numbers):
        return "int"
    if numbers and all(_NUMBER.fullmatch(text) for text in numbers):
        return "float"
    if filled and all(text.lower() in _TRUTH for text in filled):
        return "bool"
    return "text"


def _value(text: str, kind: Kind) -> Any:
    if kind == "text":
        return text
    if kind == "bool":
        return _TRUTH[text.lower()]
    if text in _NO_NUMBER:
        return None
    return int(text) if kind == "int" else float(text)
