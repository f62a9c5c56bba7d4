"""What to predict from a dataset: one of several classes, a number, or tags of which an image may have several."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError, UnknownNameError
from penult.pipeline.heads.names import Task
from penult.pipeline.samples.merging import present
from penult.store.catalog.datasets import Dataset
from penult.store.tables.columns import as_column, kind_of, missing_in
from penult.store.tables.table import Table

__all__ = ["LABEL", "SEPARATOR", "Target", "labelled", "target_of"]

LABEL = "label"
SEPARATOR = "|"
"""Separates the tags in one cell."""


@dataclass(frozen=True)
class Target:
    """What is predicted: the dataset's ``columns``, the task, and the ``names`` of the tags or of the number.

    ``values`` (n, T) are float64, with NaN for an empty cell. They are None for classes.
    """

    columns: tuple[str, ...]
    task: Task
    names: tuple[str, ...] = ()
    values: NDArray[np.float64] | None = None


def target_of(table: Table, target: str = LABEL, task: Task | None = None) -> Target:
    """Reads the columns in ``target``: one of text (classes) or numbers, or several of true and false (tags).

    Commas separate columns, and ``*`` matches any part of a name: ``tag-*``. ``task`` decides where a column can be
    read in two ways: numbers that are class codes, or text with tags separated by ``|``. The column ``label`` contains
    classes unless a task is given.
    """
    columns = _columns(table, target)
    kinds = {kind_of(table.columns[name]) for name in columns}
    if task is None:
        task = "multilabel" if len(columns) > 1 else "classification"
        if columns != (LABEL,) and len(columns) == 1 and kinds <= {"int", "float"}:
            task = "regression"
    if task == "classification":
        _require_one(columns, task)
        return Target(columns, task)
    if task == "regression":
        _require_one(columns, task)
        return Target(columns, task, columns, _numbers(columns[0], table.columns[columns[0]]))
    if task == "multilabel":
        return _tags(table, columns)
    raise InputError(f"the task is {task!r}", expected="classification, regression or multilabel")


def labelled(dataset: Dataset, target: str = LABEL, task: Task | None = None) -> Dataset:
    """Returns the dataset with the column of classes ``target`` as its labels.

    Spaces around a label are removed, and a label of spaces only counts as missing. Images that the source no longer
    has are left out.
    """
    dataset = present(dataset)
    if target == LABEL and task is None:
        return _trimmed(dataset)
    wanted = target_of(dataset, target, task)
    if wanted.task != "classification":
        raise InputError(
            f"the target {target!r} is for {wanted.task}",
            expected="a column of classes",
            remedy="name a column of classes, or set the task to classification",
        )
    column = dataset.columns[wanted.columns[0]]
    labels = [None if gone else str(value) for value, gone in zip(column, missing_in(column), strict=True)]
    return _trimmed(replace(dataset, columns={**dataset.columns, LABEL: as_column(labels, name=LABEL)}))


def _trimmed(dataset: Dataset) -> Dataset:
    column = dataset.labels
    if column is None or column.dtype != object:
        return dataset
    names = {name: name.strip() or None for name in set(column.tolist()) if isinstance(name, str)}
    if all(name == trimmed for name, trimmed in names.items()):
        return dataset
    labels = [names.get(name, name) for name in column.tolist()]
    return replace(dataset, columns={**dataset.columns, LABEL: as_column(labels, name=LABEL)})


def _columns(table: Table, target: str) -> tuple[str, ...]:
    chosen: list[str] = []
    for part in (part.strip() for part in target.split(",")):
        found = [part] if part in table.columns else [name for name in table.columns if fnmatchcase(name, part)]
        if not found:
            raise UnknownNameError.among("column", part, table.columns)
        chosen += [name for name in found if name not in chosen]
    return tuple(chosen)


def _require_one(columns: Sequence[str], task: Task) -> None:
    if len(columns) > 1:
        raise InputError(
            f"the target has {len(columns)} columns, {', '.join(columns)}, and the task is {task}",
            expected="one column",
        )


def _numbers(name: str, column: NDArray[Any]) -> NDArray[np.float64]:
    if kind_of(column) not in {"int", "float"}:
        raise InputError(f"the column {name!r} contains {kind_of(column)}", expected="numbers to predict")
    values = np.array([np.nan if value is None else value for value in column], np.float64)
    if np.isinf(values).any():
        raise InputError(f"the column {name!r} contains infinite numbers", expected="finite numbers, or empty cells")
    return values[:, None]


def _tags(table: Table, columns: tuple[str, ...]) -> Target:
    if len(columns) == 1 and kind_of(table.columns[columns[0]]) == "text":
        return _listed(columns, table.columns[columns[0]])
    parts = []
    for name in columns:
        values = np.array([np.nan if value is None else value for value in table.columns[name]], object)
        bits = np.array([value if value in (0, 1) else np.nan for value in values], np.float64)
        if not np.array_equal(np.isnan(bits), missing_in(table.columns[name])):
            raise InputError(
                f"the column {name!r} contains {kind_of(table.columns[name])}",
                expected="true and false, or 1 and 0, for each of several columns",
                remedy="name one column of numbers, or columns of true and false, one per tag",
            )
        parts.append(bits)
    return Target(columns, "multilabel", columns, np.column_stack(parts))


def _listed(columns: tuple[str, ...], cells: NDArray[Any]) -> Target:
    """Reads the tags of each cell. An empty cell means unknown, a lone separator means no tags."""
    held = [None if cell is None else {tag.strip() for tag in cell.split(SEPARATOR)} - {""} for cell in cells]
    names = tuple(sorted(set().union(*(tags for tags in held if tags))))
    places = {name: place for place, name in enumerate(names)}
    values = np.full((len(cells), len(names)), np.nan)
    for row, tags in enumerate(held):
        if tags is not None:
            values[row] = 0
            values[row, [places[tag] for tag in tags]] = 1
    return Target(columns, "multilabel", names, values)
