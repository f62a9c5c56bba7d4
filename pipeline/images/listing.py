"""Finds the images of any source, each with the label and the split that its folders or its table row give.

A source is a function that yields an `ImageFile` for each image. Images that are not plain files have an `ImageReader`.
Other packages add sources as entry points ``penult.images``, one for each URL scheme.
"""

import glob
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, cast

from penult.errors import InputError, MissingFileError
from penult.pipeline.images.archives import list_archive_file
from penult.pipeline.images.folder import expand_archive, list_folder, walk
from penult.pipeline.images.image_file import (
    ARCHIVE_SUFFIXES,
    SPLIT_NAMES,
    ImageFile,
    is_archive,
    is_remote,
    label_and_split,
    splits_of_paths,
    unusable_file,
)
from penult.pipeline.images.remote import list_remote, remote_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from penult.store.tables.sheets import Sheet

__all__ = ["list_images", "list_sources"]

ENTRY_POINT = "penult.images"

# Every name of a range in a pattern is looked up.
MAX_NAMES = 1_000_000

_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")


def list_images(source: str | Path) -> Iterator[ImageFile]:
    """Yields the images of ``source``.

    It is a folder, a table (CSV, TSV or Parquet), a text file of paths, a tar or zip archive, a pattern, a URL, or one
    image. A folder is walked to any depth in the order of its names, links included, and archives in it are read in
    place. Every file is treated as an image, whatever its name; files that are not images end in the ledger. Only
    hidden files, system files and stores are skipped.
    """
    text = os.fspath(source)
    if is_remote(text):
        for found in entry_points(group=ENTRY_POINT, name=text.split("://", maxsplit=1)[0]):
            return cast("Iterator[ImageFile]", found.load()(text))
        return list_remote(text)
    if not text:  # often an empty shell variable; Path would read it as the current folder
        raise InputError("The path of the images is empty", expected="a folder, or '.' for the current folder")
    path = Path(os.path.abspath(text))  # noqa: PTH100 - resolve() would follow links, and so rename the images
    if path.is_dir():
        return list_folder(path)
    if not path.exists():
        if is_pattern(text):
            return list_pattern(str(path))
        raise MissingFileError(
            f"There is no folder or file {text!r}",
            expected="a folder of images, a CSV or Parquet table with a column 'path', an archive, or one image",
            remedy=_nearest(path),
        )
    lister = next((SUFFIXES[suffix] for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    return lister(path) if lister else iter([ImageFile.at(str(path))])


def list_sources(images: object) -> Iterator[ImageFile]:
    """Yields the images of an iterable of paths, URLs, arrays of pixels and `ImageFile`s.

    The path of a folder or an archive yields all images in it. Any other path, even that of a table, is one image.
    """
    for image in cast("Iterator[object]", images):
        if isinstance(image, ImageFile):
            yield image
        elif not isinstance(image, str | os.PathLike):
            from penult.pipeline.images.reading import array_image

            yield array_image(cast("NDArray[np.uint8]", image))
        elif is_remote(text := os.fspath(cast("str | Path", image))) or is_archive(text) or Path(text).is_dir():
            yield from list_images(text)
        else:
            yield ImageFile.at(str(Path(text).absolute()))


def _nearest(path: Path) -> str:
    """Says how much of the path exists, which shows where a typo is."""
    parent = next(parent for parent in path.parents if parent.exists())
    if parent == path.parent:
        return f"look for a typo in {path.name!r}; {str(parent)!r} exists"
    return f"look for a typo; the path exists as far as {str(parent)!r}"


def is_pattern(text: str) -> bool:
    """Returns whether ``text`` can match several files."""
    return glob.has_magic(text) or _RANGE.search(text) is not None


def list_pattern(pattern: str) -> Iterator[ImageFile]:
    """Yields the files that match, sorted by name, and all files of folders that match.

    ``photos/2024-*/**/*.jpg`` and ``shards/{000..127}.tar`` are patterns. Labels and splits are those of the folders
    below the fixed part of the pattern.
    """
    count = math.prod(max(0, int(last) - int(first) + 1) for first, last in _RANGE.findall(pattern))
    if count > MAX_NAMES:
        raise InputError(
            f"The pattern {pattern!r} stands for {count:,} names",
            expected=f"{MAX_NAMES:,} at most",
            remedy="write * instead of a range",
        )
    found = {match for each in spelled_out(pattern) for match in glob.iglob(each, recursive=True)}  # noqa: PTH207 - strings
    paths = sorted({path for match in found for path in (walk(match) if os.path.isdir(match) else [match])})  # noqa: PTH112 - strings
    root = _fixed_part(pattern)
    parts = [path[len(root) :].split(os.sep) for path in paths]  # noqa: PTH206 - a Path each would take most of the time
    splits = splits_of_paths(parts)
    for path, names in zip(paths, parts, strict=True):
        yield from expand_archive(path, *label_and_split(names, splits))


def spelled_out(pattern: str) -> Iterator[str]:
    """Yields one pattern for each number in the ranges of ``pattern``.

    >>> list(spelled_out("shard-{08..10}.tar"))
    ['shard-08.tar', 'shard-09.tar', 'shard-10.tar']
    """
    found = _RANGE.search(pattern)
    if found is None:
        yield pattern
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from spelled_out(pattern[: found.start()] + str(number).zfill(len(first)) + pattern[found.end() :])


def _fixed_part(pattern: str) -> str:
    """Returns the folder that contains every match, with a separator at its end."""
    parts = pattern.split(os.sep)[:-1]  # noqa: PTH206 - a pattern is not a path
    fixed = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts))
    return "".join(part + os.sep for part in parts[:fixed])


def list_table(path: Path) -> Iterator[ImageFile]:
    """Yields the images of a table; relative paths start at the table's folder, and URLs are downloaded."""
    from penult.store.tables.formats import read_table

    sheet = read_table(path, kinds={"label": "text"})
    paths = sheet.column("path")
    labels = sheet.columns.get("label", [None] * len(sheet))
    splits = sheet.columns.get("split", [None] * len(sheet))
    for row, (name, label, split) in enumerate(zip(paths, labels, splits, strict=True)):
        if not name:
            raise InputError(f"{sheet.where(row)} has no path", expected="the path of an image")
        # Spaces around a label are a typing error, not another class.
        clean = None if label is None else str(label).strip() or None
        yield _named_image(path.parent, name, clean, _split_of(split, sheet, row))


def list_lines(path: Path) -> Iterator[ImageFile]:
    """Yields the images of a text file with one path per line; relative paths start at the file's folder."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for line in lines:
            if name := line.strip("\r\n"):
                yield _named_image(path.parent, name, None, None)


def _split_of(split: str | None, sheet: "Sheet", row: int) -> str | None:
    if not split:
        return None
    if split.strip().lower() not in SPLIT_NAMES:
        raise InputError(
            f"{sheet.where(row)} has the split {split!r}",
            expected="train, val or test, or another usual spelling of them",
        )
    return SPLIT_NAMES[split.strip().lower()]


def _named_image(folder: Path, name: str, label: str | None, split: str | None) -> ImageFile:
    if not is_remote(name):
        return ImageFile.at(str(folder / name), label, split)
    try:
        return remote_image(name, label, split)
    except InputError as error:  # one bad row of a million must not stop the job
        return replace(unusable_file(name, str(error)), label=label, split=split)


# The sources that are files, by suffix.
SUFFIXES: dict[str, Callable[[Path], Iterator[ImageFile]]] = {
    **dict.fromkeys(ARCHIVE_SUFFIXES, list_archive_file),
    ".csv": list_table,
    ".tsv": list_table,
    ".parquet": list_table,
    ".txt": list_lines,
}
