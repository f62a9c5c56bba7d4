"""Writes predictions to CSV, JSON lines or Parquet files, or sorts images into a folder per label."""

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


GROUP_ROWS = 10_000
"""The rows of a Parquet row group, which are in memory before they are written."""


class PredictionWriter(Protocol):
    """Writes predictions one by one."""

    def write(self, prediction: Prediction) -> None:
        """Adds one prediction to the file."""


@contextmanager
def prediction_writer(path: str | Path, classes: Sequence[str]) -> Iterator[PredictionWriter]:
    """Opens a ``.csv``, ``.jsonl`` or ``.parquet`` file for predictions; the file appears when it is complete.

    CSV and Parquet have the columns ``path``, ``label``, ``confidence``, ``error`` and one ``probability of …`` per
    class, which is empty for classes that are not in ``top``.
    """
    path = Path(path)
    kind = WRITERS.get(path.suffix.lower())
    if kind is None:
        raise InputError(
            f"The output file is named {path.name!r}", expected=f"a name that ends in {', '.join(WRITERS)}"
        )
    if not path.parent.is_dir():
        raise MissingFileError(f"There is no folder {str(path.parent)!r} to write {path.name} into", remedy="create it")
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
    """Returns a file name as valid Unicode; other bytes are escaped."""
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


FORBIDDEN = '/\\:*?"<>|'
"""Characters that some system forbids in folder names."""


class ImageSorter:
    """Puts each image into a folder named after its label; ``folder`` must be empty or not exist."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if self._folder.exists() and (not self._folder.is_dir() or any(self._folder.iterdir())):
            raise InputError(
                f"{self._folder} exists and is not empty",
                expected="a new or empty folder, so that no image of an earlier run remains in a wrong class",
                remedy="use another folder, or remove it",
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folders: dict[str, Path] = {}

    def add(self, prediction: Prediction) -> None:
        """Links or, if links are not possible, copies the image; an image with an error is skipped."""
        if prediction.label is None:
            return
        source = Path(prediction.path).absolute()
        target = _free(self._label_folder(prediction.label), source.name)
        try:
            target.symlink_to(source)
        except OSError:
            shutil.copyfile(source, target)

    def _label_folder(self, label: str) -> Path:
        if label not in self._folders:
            self._folders[label] = _free(self._folder, folder_name(label))
            self._folders[label].mkdir()
        return self._folders[label]


def folder_name(label: str) -> str:
    """Returns a safe folder name for a class, which cannot lead out of the parent folder.

    >>> folder_name("ants"), folder_name("../../etc"), folder_name("a/b"), folder_name("")
    ('ants', '_._.._etc', 'a_b', '_')
    """
    safe = "".join("_" if letter in FORBIDDEN or ord(letter) < 32 else letter for letter in label)
    if safe.startswith(".") or not safe:
        safe = "_" + safe[1:]
    return safe.encode()[:200].decode(errors="ignore")


def _free(folder: Path, name: str) -> Path:
    """Returns a path of this name in ``folder``, with a number if the name is taken."""
    target, number = folder / name, 2
    while target.exists() or target.is_symlink():
        target, number = folder / f"{Path(name).stem}-{number}{Path(name).suffix}", number + 1
    return target
