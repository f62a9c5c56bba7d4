"""Merges what a source says into a dataset, so that no label that a person corrected is lost.

Each dataset keeps, next to its columns ``label`` and ``split``, what its source said last: ``source_label`` and
``source_split``. A value that differs from it was changed by a person. The next import compares three values per image
(the source then, the source now, the dataset now), as a merge of texts does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.words import counted, shortlist
from penult.store.catalog.datasets import Dataset, Datasets
from penult.store.tables.columns import missing_in
from penult.store.tables.table import Table

__all__ = [
    "ABSENT",
    "CONFLICT",
    "SOURCE",
    "LabelConflict",
    "Merged",
    "check_source",
    "conflicts_in",
    "merge_source",
    "present",
    "update_rows",
]

SOURCE, ABSENT, CONFLICT = "source", "absent", "conflict"
"""Columns: where an image comes from, whether it is gone from there, and whether its label is disputed."""

MERGED = ("label", "split")
"""The columns that sources and people both set."""

_BASE = {name: f"source_{name}" for name in MERGED}


@dataclass(frozen=True)
class LabelConflict:
    """An image whose label a person corrected, and whose label in the source has changed since."""

    path: str
    label: str | None
    source_label: str | None


@dataclass(frozen=True)
class Merged:
    """The merged table, and what the merge kept, added and marked."""

    table: Table
    corrections: int = 0
    discarded: int = 0
    added: int = 0
    absent: int = 0
    conflicts: tuple[LabelConflict, ...] = field(default=(), repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """The merge in sentences, without those that count nothing."""
        sentences = {
            f"kept: {counted(self.corrections, 'label')} that a person corrected": self.corrections,
            f"discarded: {counted(self.discarded, 'label')} that a person had corrected": self.discarded,
            f"no longer in the source, and not trained on: {counted(self.absent, 'image')}": self.absent,
            "corrected by a person, and changed in the source since: "
            f"{shortlist([_spelt(one) for one in self.conflicts], 3)}; the corrections are kept": len(self.conflicts),
        }
        return tuple(sentence for sentence, count in sentences.items() if count)


def present(dataset: Dataset) -> Dataset:
    """Returns the dataset without the images that its source no longer has."""
    column = dataset.columns.get(ABSENT)
    if column is None or not any(is_absent := [value is True or value is np.True_ for value in column.tolist()]):
        return dataset
    kept = dataset.select(~np.array(is_absent, np.bool_))
    return Dataset(
        kept.keys,
        kept.paths,
        kept.columns,
        name=dataset.name,
        version=dataset.version,
        created=dataset.created,
        digest=dataset.digest,
    )


def check_source(datasets: Datasets, name: str, source: str) -> None:
    """Raises InputError where the dataset ``name`` belongs to another source."""
    if name not in datasets.names():
        return
    column = datasets.load(name).columns.get(SOURCE)
    known = [] if column is None else sorted({str(value) for value in column.tolist() if value is not None})
    if known and source not in known:
        raise InputError(
            f"The dataset {name!r} belongs to {shortlist([repr(one) for one in known], 3)}, and not to {source!r}",
            expected="one source per dataset",
            remedy=f"choose another name with --name, such as --name {name}-2",
        )


def merge_source(datasets: Datasets, name: str, now: Table, source: str, *, discard: bool = False) -> Merged:
    """Merges ``now``, what the source says, into the newest version of a dataset.

    A corrected value stays, and so does a value of unknown origin. An unchanged value follows the source. New images
    are added. Images that the source no longer has are marked as absent. Other columns are kept. With ``discard``, the
    source wins everywhere.
    """
    base = {_BASE[column]: values for column, values in now.columns.items() if column in MERGED}
    sourced = now.with_columns({**base, SOURCE: [source] * len(now)})
    if name not in datasets.names():
        return Merged(sourced, added=len(now))
    before = datasets.load(name)
    rows = {key: row for row, key in reversed(list(enumerate(before.key_bytes())))}
    places = [rows.get(key, -1) for key in now.key_bytes()]
    columns: dict[str, Any] = dict(sourced.columns)
    # Where nobody knows what the source said before, None differs from every value: what the dataset says is kept.
    bases = {
        column: _texts(before.columns.get(_BASE[column]), len(before)) for column in MERGED if column in before.columns
    }
    corrections = discarded = 0
    disputed = np.zeros(len(now), np.bool_)
    for column, then in bases.items():
        theirs = _texts(now.columns.get(column), len(now))
        own = _texts(before.columns[column], len(before))
        ours = [own[place] if place >= 0 else None for place in places]
        base_then = [then[place] if place >= 0 else None for place in places]
        is_corrected = [place >= 0 and mine != old for place, mine, old in zip(places, ours, base_then, strict=True)]
        is_open = [mine != its for mine, its in zip(ours, theirs, strict=True)]
        kept = [changed and differs for changed, differs in zip(is_corrected, is_open, strict=True)]
        if column == "label":
            corrections, discarded = (0, sum(kept)) if discard else (sum(kept), 0)
            moved = [its != old for its, old in zip(theirs, base_then, strict=True)]
            earlier = _flags(before, CONFLICT)
            disputed = np.array(
                [
                    stays and (has_moved or bool(place >= 0 and earlier[place])) and not discard
                    for stays, has_moved, place in zip(kept, moved, places, strict=True)
                ],
                np.bool_,
            )
        if not discard:
            columns[column] = [mine if stays else its for mine, its, stays in zip(ours, theirs, kept, strict=True)]
    for column, values in before.columns.items():
        if column not in {*columns, ABSENT, CONFLICT}:
            columns[column] = [values[place] if place >= 0 else None for place in places]
    found = set(now.key_bytes())
    gone = [row for key, row in rows.items() if key not in found]
    gone.sort()
    table = _joined(Table(now.keys, now.paths, columns), before, gone, disputed)
    label = _texts(table.columns.get("label"), len(table))
    theirs = _texts(table.columns.get(_BASE["label"]), len(table))
    conflicts = tuple(LabelConflict(table.paths[row], label[row], theirs[row]) for row in np.flatnonzero(disputed))
    return Merged(table, corrections, discarded, places.count(-1), len(gone), conflicts)


def update_rows(before: Dataset, edited: Table, *, replace: bool = False) -> Table:
    """Returns the dataset with the rows of ``edited``, a table that a person made.

    Columns that the table does not have keep their values. Images that it does not list stay as they are, or are
    dropped with ``replace``.
    """
    rows = {key: row for row, key in reversed(list(enumerate(before.key_bytes())))}
    places = [rows.get(key, -1) for key in edited.key_bytes()]
    columns: dict[str, Any] = dict(edited.columns)
    for column, values in before.columns.items():
        if column not in columns:
            columns[column] = [values[place] if place >= 0 else None for place in places]
    if CONFLICT in columns and CONFLICT not in edited.columns:  # a person has looked at these labels
        columns[CONFLICT] = [False] * len(edited)
    listed = set(edited.key_bytes())
    rest = [] if replace else [row for row, key in enumerate(before.key_bytes()) if key not in listed]
    table = Table(edited.keys, edited.paths, columns)
    return _stacked(table, before.select(np.array(rest, np.intp)))


def conflicts_in(dataset: Dataset) -> tuple[LabelConflict, ...]:
    """Returns the images whose corrected label and changed source label have not been settled."""
    label = _texts(dataset.columns.get("label"), len(dataset))
    theirs = _texts(dataset.columns.get(_BASE["label"]), len(dataset))
    return tuple(
        LabelConflict(dataset.paths[row], label[row], theirs[row])
        for row, is_disputed in enumerate(_flags(dataset, CONFLICT))
        if is_disputed and label[row] != theirs[row]
    )


def _joined(table: Table, before: Dataset, gone: Sequence[int], disputed: NDArray[np.bool_]) -> Table:
    """Returns the rows of the source and then those that it no longer has, with both flags where one is set."""
    rest = before.select(np.array(gone, np.intp))
    earlier = _flags(before, CONFLICT)
    flags: Mapping[str, Sequence[bool]] = {
        ABSENT: [False] * len(table) + [True] * len(rest),
        CONFLICT: [*disputed.tolist(), *(earlier[row] for row in gone)],
    }
    stacked = _stacked(table, rest)
    return stacked.with_columns({name: values for name, values in flags.items() if any(values)})


def _stacked(first: Table, second: Table) -> Table:
    if not len(second):
        return first
    names = dict.fromkeys((*first.columns, *second.columns))
    columns = {
        name: [
            value
            for table in (first, second)
            for value in (table.columns[name].tolist() if name in table.columns else [None] * len(table))
        ]
        for name in names
    }
    return Table(np.concatenate([first.keys, second.keys]), (*first.paths, *second.paths), columns)  # type: ignore[arg-type]  # as_column takes both


def _texts(column: NDArray[Any] | None, n: int) -> list[str | None]:
    if column is None:
        return [None] * n
    return [None if lacks else str(value) for value, lacks in zip(column, missing_in(column), strict=True)]


def _flags(dataset: Dataset, column: str) -> list[bool]:
    values = dataset.columns.get(column)
    return [False] * len(dataset) if values is None else [bool(value) for value in values.tolist()]


def _spelt(conflict: LabelConflict) -> str:
    return f"{conflict.path} ({conflict.label}, now {conflict.source_label})"
