"""A folder: every file in it, at any depth, and what lies in its archives."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from penult.errors import InputError
from penult.pipeline.images.archives import list_archive_file
from penult.pipeline.images.image_file import (
    SPLIT_NAMES,
    ImageFile,
    is_archive,
    is_visible,
    label_and_split,
    splits_among,
    unusable_file,
)

# By these names in it a store is known, which may stand among the images that it was made of.
STORE_NAMES = frozenset({"store.json", "spaces", "backbones"})


def list_folder(root: Path) -> Iterator[ImageFile]:
    """Yields the files below ``root`` in the order of their names, links followed, with class folders and splits."""
    splits = split_folders(root)
    start = len(os.path.join(root, ""))  # noqa: PTH118 - ends in a separator
    beside, label, split = "", None, None
    for path in walk(str(root)):
        # A file of the folder of the file before it has its label and split; a Path each would take most of the time.
        end = path.rfind(os.sep)
        if end + 1 != len(beside) or not path.startswith(beside):
            beside = path[: end + 1]
            label, split = label_and_split(path[start:].split(os.sep), splits)  # noqa: PTH206 - likewise
        if is_archive(path):
            yield from expanded(path, label, split)
        else:  # a generator less for each of a million files
            yield ImageFile.at(path, label, split)


def expanded(path: str, label: str | None, split: str | None) -> Iterator[ImageFile]:
    """Yields the file, or the images in it where it is an archive: those without a label have the archive's own."""
    if not is_archive(path):
        yield ImageFile.at(path, label, split)
        return
    try:
        for file in list_archive_file(path):
            yield replace(file, label=file.label or label, split=file.split or split)
    except (InputError, OSError) as error:
        yield unusable_file(path, str(error))


def split_folders(root: Path) -> dict[str, str]:
    """Returns which of the folders directly in ``root`` are splits, and which split each is."""
    with os.scandir(root) as entries:
        folders = [entry.name for entry in entries if _is_folder(entry) and is_visible(entry.name)]
    # Only those that are called as splits are are looked into: a class may hold a million files.
    return splits_among({name: name.lower() in SPLIT_NAMES and _holds_folders(root / name) for name in folders})


def _holds_folders(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(_is_folder(entry) for entry in entries)
    except OSError:
        return False


def walk(root: str) -> Iterator[str]:
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
            with os.scandir(path) as found:
                entries = {entry.name: entry for entry in found}
        except OSError:
            yield path
            continue
        here = (own.st_dev, own.st_ino)
        if here in ancestors:  # a link that leads back up: all that it shows is being listed already
            continue
        if entries.keys() >= STORE_NAMES:
            continue
        within = ancestors | {here}
        names = sorted(filter(is_visible, entries), reverse=True)
        waiting.extend((entries[name].path, within if _is_folder(entries[name]) else None) for name in names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
