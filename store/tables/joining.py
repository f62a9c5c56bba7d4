"""Joins a sheet of labels to the images of a store, and lists the rows and images without a match."""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.store.tables.columns import as_column
from penult.store.tables.formats import keys_of
from penult.store.tables.sheets import Sheet
from penult.store.tables.table import Table

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Joined:
    """The images with a row, in the order of the images, and the rows and images without a match."""

    table: Table
    unmatched: Places
    """The rows of the sheet without an image in the store."""
    unlabelled: Places
    """The images without a row in the sheet."""
    repeated: Places
    """The rows of the sheet that repeat an earlier row."""


def join(sheet: Sheet, images: Table, *, base: str | Path | None = None, path_column: str = "path") -> Joined:
    """Gives each image the columns of its row, matched by ``key`` if the sheet has that column, else by path.

    Relative paths start at ``base``, by default the folder of the sheet. Columns of ``images`` stay unless the sheet
    has a column of the same name.
    """
    rows_at = _by_key(sheet, images) if "key" in sheet.columns else _by_path(sheet, images, base, path_column)
    row_of = np.full(len(images), -1, np.int64)
    values = [name for name in sheet.columns if name not in {"key", "path", path_column}]
    unmatched, repeated = [], []
    for row, places in enumerate(rows_at):
        if not places:
            unmatched.append(row)
        elif row_of[places[0]] >= 0:
            _check_agreement(sheet, int(row_of[places[0]]), row, values)
            repeated.append(row)
        else:
            row_of[places] = row
    labelled = np.flatnonzero(row_of >= 0)
    kept = images.select(labelled)
    table = kept.with_columns({name: sheet.columns[name][row_of[labelled]] for name in values})
    return Joined(table, np.array(unmatched, np.int64), np.flatnonzero(row_of < 0), np.array(repeated, np.int64))


def _by_key(sheet: Sheet, images: Table) -> Iterator[list[int]]:
    places: dict[bytes, list[int]] = {}
    for place, key in enumerate(images.key_bytes()):
        places.setdefault(key, []).append(place)
    return (places.get(key, []) for key in keys_of(sheet, sheet.column("key")))


def _by_path(sheet: Sheet, images: Table, base: str | Path | None, path_column: str) -> Iterator[list[int]]:
    folder = os.path.abspath(Path(sheet.source).parent if base is None else base)  # noqa: PTH100 - keeps the names of links
    places: dict[str, list[int]] = {}
    for place, path in enumerate(images.paths):
        places.setdefault(_plain(path), []).append(place)
    for row, path in enumerate(sheet.column(path_column)):
        if not isinstance(path, str):
            raise InputError(f"{sheet.where(row)} has no path", expected=f"a path in {path_column!r}")
        found = places.get(_plain(os.path.join(folder, path)))  # noqa: PTH118 - faster for a million strings
        if found is None and "\\" in path:  # a sheet from Windows
            found = places.get(_plain(os.path.join(folder, path.replace("\\", "/"))))  # noqa: PTH118 - as above
        yield found or []


def _plain(path: str) -> str:
    # NFC, because macOS returns decomposed letters for names that were typed composed.
    return os.path.normpath(unicodedata.normalize("NFC", path))


def _check_agreement(sheet: Sheet, first: int, second: int, names: list[str]) -> None:
    for name in names:
        one, other = (as_column(sheet.columns[name][[row]]).tolist()[0] for row in (first, second))
        if one != other and not _are_missing(one, other):
            raise InputError(
                f"{sheet.where(second)} has {name} {other!r}, but {sheet.unit} {sheet.lines[first]} for the same image "
                f"has {one!r}",
                expected="one row for each image",
                remedy="if an image has several labels, use one column of booleans for each label",
            )


def _are_missing(*values: Any) -> bool:
    return all(value is None or value != value for value in values)  # noqa: PLR0124 - NaN differs from itself
