"""Writes predictions as they come: CSV for spreadsheets, JSON lines for programs, Parquet for many."""

import csv
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

from penult.errors import InputError, MissingExtraError, MissingFileError
from penult.pipeline.models.predict import Prediction

__all__ = ["ImageSorter", "PredictionWriter", "prediction_writer"]


# How many rows of Parquet are held in memory before they are written.
GROUP_ROWS = 10_000


class PredictionWriter(Protocol):
    """Takes predictions one after the other."""

    def write(self, prediction: Prediction) -> None:
        """Adds one prediction to the file."""


@contextmanager
def prediction_writer(path: str | Path, classes: Sequence[str]) -> Iterator[PredictionWriter]:
    """Opens a ``.csv``, ``.jsonl`` or ``.parquet`` file for predictions; it appears under its name when it is whole.

    CSV and Parquet have the columns ``path``, ``label``, ``confidence``, ``error`` and one ``probability of …`` for
    each class, empty where a class is not among the most probable that were asked for.
    """
    path = Path(path)
    kind = WRITERS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"The output is called {path.name!r}", expected=f"a name that ends in {', '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise MissingFileError(f"There is no folder {str(path.parent)!r} to write {path.name} into", remedy="make it")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        writer = kind(draft, classes)
        try:
            yield writer
        finally:
            writer.close()
        draft.replace(path)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()


def _columns(classes: Sequence[str]) -> dict[str, str]:
    return {name: f"probability of {name}" for name in classes}


def _text(value: str) -> str:
    """Returns a file's name as Unicode; bytes of it that are none are spelt out."""
    return value.encode("utf-8", "backslashreplace").decode()


def _open(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


class _CsvWriter:
    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self._columns = _columns(classes)
        self._stream = _open(path)
        self._rows = csv.writer(self._stream)
        self._rows.writerow(["path", "label", "confidence", "error", *self._columns.values()])

    def write(self, prediction: Prediction) -> None:
        found = [prediction.probabilities.get(name, "") for name in self._columns]
        values = [prediction.path, prediction.label, prediction.confidence, prediction.error, *found]
        self._rows.writerow(["" if value is None else value for value in values])

    def close(self) -> None:
        self._stream.close()


class _JsonWriter:
    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self._stream = _open(path)

    def write(self, prediction: Prediction) -> None:
        self._stream.write(json.dumps(prediction.to_json()) + "\n")

    def close(self) -> None:
        self._stream.close()


class _ParquetWriter:
    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise MissingExtraError.of("pyarrow", "parquet", "A Parquet file") from None
        self._columns, self._table = _columns(classes), pyarrow.Table
        fields: list[tuple[str, Any]] = [("path", pyarrow.string()), ("label", pyarrow.string())]
        fields += [("confidence", pyarrow.float64()), ("error", pyarrow.string())]
        fields += [(column, pyarrow.float64()) for column in self._columns.values()]
        self._schema = pyarrow.schema(fields)
        self._writer = parquet.ParquetWriter(path, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, prediction: Prediction) -> None:
        row: dict[str, Any] = {self._columns[name]: value for name, value in prediction.probabilities.items()}
        row |= {"path": _text(prediction.path), "label": prediction.label, "confidence": prediction.confidence}
        self._rows.append(row | {"error": None if prediction.error is None else _text(prediction.error)})
        if len(self._rows) >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def close(self) -> None:
        self._flush()
        self._writer.close()


WRITERS: dict[str, type[_CsvWriter | _JsonWriter | _ParquetWriter]] = {
    ".csv": _CsvWriter,
    ".jsonl": _JsonWriter,
    ".parquet": _ParquetWriter,
}


# What may not stand in a folder's name on one system or another.
FORBIDDEN = '/\\:*?"<>|'


class ImageSorter:
    """Puts each image into the folder of its label, under ``folder``, which must be empty or not there yet."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if self._folder.exists() and (not self._folder.is_dir() or any(self._folder.iterdir())):
            raise InputError(
                f"{self._folder} is there already, and not empty",
                expected="a new or empty folder, so that no image of an earlier run stays in a wrong class",
                remedy="name another folder, or remove it",
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        self._places: dict[str, Path] = {}

    def take(self, prediction: Prediction) -> None:
        """Links the image, or copies it where links cannot be made; one that failed has no place."""
        if prediction.label is None:
            return
        source = Path(prediction.path).absolute()
        target = _free(self._place(prediction.label), source.name)
        try:
            target.symlink_to(source)
        except OSError:
            shutil.copyfile(source, target)

    def _place(self, label: str) -> Path:
        if label not in self._places:
            place = _free(self._folder, folder_name(label))
            place.mkdir()
            self._places[label] = place
        return self._places[label]


def folder_name(label: str) -> str:
    """Returns a name for the folder of a class that leads nowhere else, whatever the class is called.

    >>> folder_name("ants"), folder_name("../../etc"), folder_name("a/b"), folder_name("")
    ('ants', '_._.._etc', 'a_b', '_')
    """
    safe = "".join("_" if letter in FORBIDDEN or ord(letter) < 32 else letter for letter in label)
    if safe.startswith(".") or not safe:
        safe = "_" + safe[1:]
    return safe.encode()[:200].decode(errors="ignore")


def _free(folder: Path, name: str) -> Path:
    """Returns a path of this name in ``folder``, numbered if the name is taken."""
    target, number = folder / name, 2
    while target.exists() or target.is_symlink():
        target, number = folder / f"{Path(name).stem}-{number}{Path(name).suffix}", number + 1
    return target
