"""A table: one row an image, with its path and perhaps its label and split; or a list, one line a path."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from penult.errors import InputError
from penult.pipeline.images.image_file import SPLIT_NAMES, ImageFile, is_remote, unusable_file

if TYPE_CHECKING:
    from penult.store.tables.sheets import Sheet


def list_table(path: Path) -> Iterator[ImageFile]:
    """Yields the images of a table; relative paths are relative to the table's own folder, and URLs are fetched."""
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
        yield _one(path.parent, name, called, _split_of(split, sheet, row))


def _split_of(split: str | None, sheet: "Sheet", row: int) -> str | None:
    if not split:
        return None
    if split.strip().lower() not in SPLIT_NAMES:
        raise InputError(
            f"{sheet.where(row)} has the split {split!r}",
            expected="train, val or test, or another usual spelling of them",
        )
    return SPLIT_NAMES[split.strip().lower()]


def list_lines(path: Path) -> Iterator[ImageFile]:
    """Yields the images that a text file names, one in a line; relative paths are relative to its own folder."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for line in lines:
            if name := line.strip("\r\n"):
                yield _one(path.parent, name, None, None)


def _one(folder: Path, name: str, label: str | None, split: str | None) -> ImageFile:
    if is_remote(name):
        from penult.pipeline.images.remote import remote_image

        try:
            return remote_image(name, label, split)
        except InputError as error:  # a slip of the hand in one row of a million
            return replace(unusable_file(name, str(error)), label=label, split=split)
    return ImageFile.at(str(folder / name), label, split)
