"""Imports labels from a table and makes new splits, each as a new version of a dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penult.errors import InputError
from penult.pipeline.samples.merging import update_rows
from penult.pipeline.words import counted
from penult.store import Store
from penult.store.catalog.datasets import Dataset
from penult.store.tables.columns import Kind
from penult.store.tables.formats import read_table
from penult.store.tables.joining import join
from penult.store.tables.splits import split_by_key, split_by_time
from penult.store.tables.table import Table

# How many lines of the table a note lists.
NAMED_LINES = 3


@dataclass(frozen=True)
class Relabelled:
    """The new version of the dataset, and notes about rows that are not in it."""

    dataset: Dataset
    notes: tuple[str, ...]


def import_labels(
    store: Store, source: str | Path, *, name: str, base: str | Path | None = None, replace: bool = False
) -> Relabelled:
    """Saves the rows of a CSV or Parquet table as corrections, in a new version of a dataset.

    Images that the table does not list, and columns that it does not have, stay as they are. With ``replace``, images
    that it does not list are dropped.

    Each row identifies an image in the store by ``key`` or by ``path``, relative to ``base`` (by default the table's
    folder). Without a column ``split``, images keep their split, and new images get one by their keys. A column that
    contains text in the dataset stays text, whatever the CSV cells look like.
    """
    sheet = read_table(source, kinds=_texts(store, name))
    joined = join(sheet, store.catalog.files.table(), base=base)
    notes = []
    if len(joined.unmatched):
        named = ", ".join(sheet.where(int(row)) for row in joined.unmatched[:NAMED_LINES])
        notes.append(
            f"left out because their image is not in the store: {counted(len(joined.unmatched), 'row')} ({named}); "
            "'penult extract' adds images"
        )
    if len(joined.repeated):
        notes.append(f"repeated from an earlier row: {counted(len(joined.repeated), 'row')}")
    if not len(joined.table):
        raise InputError(
            f"None of the {len(sheet):,} rows of {source} identifies an image in the store",
            expected="paths of extracted images, relative to the table's folder, or their keys",
            remedy="run 'penult extract' on the images first, or name their folder with --base",
        )
    table = joined.table
    if table.splits is None:
        table = table.with_columns({"split": split_by_key(table.keys, table.labels, previous=splits_of(store, name))})
    if name in store.catalog.datasets.names():
        before = store.catalog.datasets.load(name)
        table = update_rows(before, table, replace=replace)
        if unlisted := len(table) - len(joined.table):
            notes.append(f"unchanged, because the table does not list them: {counted(unlisted, 'image')}")
    return Relabelled(store.catalog.datasets.save(name, table), tuple(notes))


def _texts(store: Store, name: str) -> dict[str, Kind]:
    """Returns the text columns of the newest version, so that a class named "true" is not read as a boolean."""
    if name not in store.catalog.datasets.names():
        return {}
    columns = store.catalog.datasets.load(name).columns.items()
    return {name: "text" for name, values in columns if any(isinstance(value, str) for value in values)}


def splits_of(store: Store, name: str) -> Mapping[bytes, str]:
    """Returns the split of each key in the newest version of a dataset."""
    if name not in store.catalog.datasets.names():
        return {}
    newest = store.catalog.datasets.load(name)
    if newest.splits is None:
        return {}
    return {key.tobytes(): split for key, split in zip(newest.keys, newest.splits, strict=True) if split}


@dataclass(frozen=True)
class SplitRule:
    """How to split: by key, with whole groups on one side; or by ``column`` at the time ``cut``."""

    test: float = 0.2
    val: float = 0.0
    group: str | None = None
    column: str | None = None
    cut: str | None = None
    salt: str = "penult"


def split_dataset(store: Store, name: str, rule: SplitRule) -> Dataset:
    """Splits a dataset as a new version, independently of earlier splits."""
    table = store.catalog.datasets.load(name)
    if rule.column is not None:
        if rule.cut is None:
            raise InputError("--column was given without --cut", remedy="add --cut, for example --cut 2024-06-01")
        splits = split_by_time(_column(table, rule.column), _cut(rule.cut))
    else:
        fractions = {"train": 1 - rule.test - rule.val, "val": rule.val, "test": rule.test}
        if min(fractions.values()) < 0 or not fractions["train"] > 0:
            raise InputError(f"The shares are {rule.test} for test and {rule.val} for val", expected="a sum below 1")
        groups = None if rule.group is None else _column(table, rule.group)
        given = {split: share for split, share in fractions.items() if share}
        splits = split_by_key(table.keys, table.labels, fractions=given, groups=groups, salt=rule.salt)
    return store.catalog.datasets.save(name, table.with_columns({"split": splits}))


def _column(table: Table, name: str) -> np.ndarray:
    if name not in table.columns:
        raise InputError(f"The dataset has no column {name!r}", expected=f"one of {', '.join(table.columns)}")
    return table.columns[name]


def _cut(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
