"""Every file in a folder, at any depth, and every image in its archives."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from penult.errors import InputError
from penult.pipeline.images.archives import list_archive_file
from penult.pipeline.images.image_file import (
    SPLIT_NAMES,
    ImageFile,
    find_splits,
    is_archive,
    is_listed,
    label_and_split,
    unusable_file,
)

# A folder with these entries is a store. It may be inside the folder of images that it was made from.
STORE_NAMES = frozenset({"store.json", "spaces", "backbones"})


def list_folder(root: Path) -> Iterator[ImageFile]:
    """Yields the files below ``root`` sorted by name, with labels and splits from its folders; links are followed."""
    splits = split_folders(root)
    start = len(os.path.join(root, ""))  # noqa: PTH118 - ends with a separator
    folder, label, split = "", None, None
    for path in walk(str(root)):
        # Files in the same folder share label and split. Creating a Path for each would take most of the time.
        end = path.rfind(os.sep)
        if end + 1 != len(folder) or not path.startswith(folder):
            folder = path[: end + 1]
            label, split = label_and_split(path[start:].split(os.sep), splits)  # noqa: PTH206 - see above
        if is_archive(path):
            yield from expand_archive(path, label, split)
        else:  # saves a generator for each of a million files
            yield ImageFile.at(path, label, split)


def expand_archive(path: str, label: str | None, split: str | None) -> Iterator[ImageFile]:
    """Yields the file, or the images in it if it is an archive; images without a label get the archive's."""
    if not is_archive(path):
        yield ImageFile.at(path, label, split)
        return
    try:
        for file in list_archive_file(path):
            yield replace(file, label=file.label or label, split=file.split or split)
    except (InputError, OSError) as error:
        yield unusable_file(path, str(error))


def split_folders(root: Path) -> dict[str, str]:
    """Returns the folders directly in ``root`` that are splits, and the split of each."""
    with os.scandir(root) as entries:
        folders = [entry.name for entry in entries if _is_folder(entry) and is_listed(entry.name)]
    # Only folders with a split's name are opened, because a class may contain a million files.
    return find_splits({name: name.lower() in SPLIT_NAMES and _has_folders(root / name) for name in folders})


def _has_folders(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(_is_folder(entry) for entry in entries)
    except OSError:
        return False


def walk(root: str) -> Iterator[str]:
    """Yields the files below ``root``; an unreadable folder is yielded itself, so that it ends in the ledger."""
    # A list of paths with their parent folders instead of recursion, so that any depth works.
    waiting: list[tuple[str, frozenset[tuple[int, int]] | None]] = [(root, frozenset())]
    while waiting:
        path, ancestors = waiting.pop()
        if ancestors is None:
            yield path
            continue
        try:
            own = os.stat(path)  # noqa: PTH116 - scandir returns strings
            with os.scandir(path) as found:
                entries = {entry.name: entry for entry in found}
        except OSError:
            yield path
            continue
        here = (own.st_dev, own.st_ino)
        if here in ancestors:  # a link to a parent folder, whose content is already being listed
            continue
        if entries.keys() >= STORE_NAMES:
            continue
        within = ancestors | {here}
        names = sorted(filter(is_listed, entries), reverse=True)
        waiting.extend((entries[name].path, within if _is_folder(entries[name]) else None) for name in names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
