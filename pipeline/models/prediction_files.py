"""Writes predictions as they come: CSV for spreadsheets, JSON lines for programs, Parquet for many."""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

from penult.errors import InputError, MissingExtraError, MissingFileError
from penult.pipeline.models.predict import Prediction

__all__ = ["PredictionWriter", "prediction_writer"]

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
