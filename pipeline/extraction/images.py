"""Finds images: every file of a folder or a table, with the label and the split that its place or its row tells."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from penult.errors import InputError, MissingFileError

if TYPE_CHECKING:
    from penult.store.tables.sheets import Sheet

# How people spell the three splits, as folder names and in tables.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
}

# What operating systems leave in folders beside the images.
LITTER = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"})

# By these names in it a store is known, which may stand among the images that it was made of.
STORE_NAMES = frozenset({"store.json", "spaces", "backbones"})

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file that should be an image. ``size`` is -1 where the file could not even be looked at."""

    path: str
    size: int
    mtime_ns: int
    label: str | None = None
    split: str | None = None

    @classmethod
    def at(cls, path: str, label: str | None = None, split: str | None = None) -> "ImageFile":
        """Looks at the file's size and time; a file that is not there fails later, with a row in the ledger."""
        try:
            found = os.stat(path)  # noqa: PTH116 - called for every image of a collection: no Path is made
        except (OSError, ValueError):  # a path with a zero byte is a ValueError
            return cls(path, -1, 0, label, split)
        return cls(path, found.st_size, found.st_mtime_ns, label, split)


def list_images(source: str | Path) -> Iterator[ImageFile]:
    """Yields the images of a folder, of a table (CSV, TSV or Parquet), or the one image that ``source`` is.

    A folder is walked to any depth in the order of its names, links included. Every file in it is taken for an image,
    whatever its name: what turns out to be none ends in the ledger, not in oblivion. Only hidden files, the litter
    of operating systems and stores are passed over.
    """
    path = Path(os.path.abspath(source))  # noqa: PTH100 - resolve() would follow links, and so rename the images
    if path.is_dir():
        return _list_folder(path)
    if not path.exists():
        raise MissingFileError(
            f"There is no folder or file {str(source)!r}",
            expected="a folder of images, a CSV or Parquet table with a column 'path', or one image",
            remedy=_nearest(path),
        )
    if path.suffix.lower() in TABLE_SUFFIXES:
        return _list_table(path)
    return iter([ImageFile.at(str(path))])


def _nearest(path: Path) -> str:
    """Says how far the path leads, so that a typo is found at once."""
    parent = next(parent for parent in path.parents if parent.exists())
    if parent == path.parent:
        return f"look for a typo in {path.name!r}; {str(parent)!r} exists"
    return f"look for a typo; the path exists as far as {str(parent)!r}"


def _list_folder(root: Path) -> Iterator[ImageFile]:
    splits = split_folders(root)
    start = len(os.path.join(root, ""))  # noqa: PTH118 - ends in a separator
    for path in _walk(str(root)):
        parts = path[start:].split(os.sep)  # noqa: PTH206 - a Path each would take most of the time
        split = splits.get(parts[0])
        depth = 0 if split is None else 1
        label = parts[depth] if len(parts) > depth + 1 else None
        yield ImageFile.at(path, label, split)


def split_folders(root: Path) -> dict[str, str]:
    """Returns which of the folders directly in ``root`` are splits rather than classes, and which split each is.

    A folder called ``train`` is a split if it, or another one called as a split is, holds folders, and if it is not
    alone among folders of other names: beside ``car`` and ``boat`` it is a class of vehicles. So the images of a
    ``test`` without class folders have no label, rather than the label "test".
    """
    folders = [entry.name for entry in os.scandir(root) if _is_folder(entry) and not entry.name.startswith(".")]
    splits = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    is_split = len(splits) > 1 or len(splits) == len(folders)
    return splits if is_split and any(_holds_folders(root / name) for name in splits) else {}


def _holds_folders(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(_is_folder(entry) for entry in entries)
    except OSError:
        return False


def _walk(root: str) -> Iterator[str]:
    """Yields the files below ``root``; a folder that cannot be read is yielded itself, and so ends in the ledger.

    What is still to be visited stands in a list, with the folders that lead to it: no depth of folders is too deep.
    """
    waiting: list[tuple[str, frozenset[tuple[int, int]] | None]] = [(root, frozenset())]
    while waiting:
        path, ancestors = waiting.pop()
        if ancestors is None:
            yield path
            continue
        try:
            own = os.stat(path)  # noqa: PTH116 - once a folder, beside scandir, which gives strings
            entries = sorted(os.scandir(path), key=lambda entry: entry.name, reverse=True)
        except OSError:
            yield path
            continue
        here = (own.st_dev, own.st_ino)
        if here in ancestors:  # a link that leads back up: all that it shows is being listed already
            continue
        if STORE_NAMES.issubset(entry.name for entry in entries):
            continue
        within = ancestors | {here}
        waiting.extend((entry.path, within if _is_folder(entry) else None) for entry in entries if _counts(entry.name))


def _counts(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in LITTER


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _list_table(path: Path) -> Iterator[ImageFile]:
    """Yields the images of a table; relative paths are relative to the table's own folder."""
    from penult.store.tables.formats import read_table

    sheet = read_table(path, kinds={"label": "text"})
    paths = sheet.column("path")
    labels = sheet.columns.get("label", [None] * len(sheet))
    splits = sheet.columns.get("split", [None] * len(sheet))
    for row, (name, label, split) in enumerate(zip(paths, labels, splits, strict=True)):
        if not name:
            raise InputError(f"{sheet.where(row)} has no path", expected="the path of an image")
        # Blanks around a label are a slip of the hand, and no class of its own.
        called = None if label is None else str(label).strip() or None
        yield ImageFile.at(str(path.parent / name), called, _split_of(split, sheet, row))


def _split_of(split: str | None, sheet: "Sheet", row: int) -> str | None:
    if not split:
        return None
    if split.strip().lower() not in SPLIT_NAMES:
        raise InputError(
            f"{sheet.where(row)} has the split {split!r}",
            expected="train, val or test, or another usual spelling of them",
        )
    return SPLIT_NAMES[split.strip().lower()]
