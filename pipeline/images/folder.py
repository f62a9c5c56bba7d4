"""Lists the files of a folder at any depth, or those that match a pattern, including the images in archives."""

import glob
import math
import os
import re
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
    splits_of_paths,
    unusable_file,
)

# A folder with these entries is a store, which may be in the folder of its images; it is skipped.
STORE_NAMES = frozenset({"store.json", "spaces", "backbones"})


_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")

# Each name that a range expands to is looked up separately.
MOST_NAMES = 1_000_000


def list_folder(root: Path) -> Iterator[ImageFile]:
    """Yields the files below ``root`` sorted by name, with label and split of their folders; follows links."""
    splits = split_folders(root)
    start = len(os.path.join(root, ""))  # noqa: PTH118 - ends in a separator
    beside, label, split = "", None, None
    for path in walk(str(root)):
        # Files of one folder share label and split. A Path per file would take most of the time.
        end = path.rfind(os.sep)
        if end + 1 != len(beside) or not path.startswith(beside):
            beside = path[: end + 1]
            label, split = label_and_split(path[start:].split(os.sep), splits)  # noqa: PTH206 - likewise
        if is_archive(path):
            yield from expanded(path, label, split)
        else:  # avoids a generator per file
            yield ImageFile.at(path, label, split)


def is_pattern(text: str) -> bool:
    """Returns whether ``text`` is a pattern, such as ``photos/**/*.jpg`` or ``shards/{000..127}.tar``."""
    return glob.has_magic(text) or _RANGE.search(text) is not None


def list_pattern(pattern: str) -> Iterator[ImageFile]:
    """Yields the matching files and all files of matching folders, sorted by name.

    Class folders and splits are those below the fixed part of the pattern.
    """
    count = math.prod(max(0, int(last) - int(first) + 1) for first, last in _RANGE.findall(pattern))
    if count > MOST_NAMES:
        raise InputError(
            f"The pattern {pattern!r} expands to {count:,} names",
            expected=f"{MOST_NAMES:,} at most",
            remedy="use * instead of a range",
        )
    each = expand_ranges(pattern)
    found = {match for one in each for match in glob.iglob(one, recursive=True)}  # noqa: PTH207 - strings
    paths = sorted({path for match in found for path in (walk(match) if os.path.isdir(match) else [match])})  # noqa: PTH112 - strings
    root = _fixed_part(pattern)
    parts = [path[len(root) :].split(os.sep) for path in paths]  # noqa: PTH206 - a Path each would take most of the time
    splits = splits_of_paths(parts)
    for path, names in zip(paths, parts, strict=True):
        yield from expanded(path, *label_and_split(names, splits))


def expand_ranges(pattern: str) -> Iterator[str]:
    """Yields the patterns that ranges of numbers expand to.

    >>> list(expand_ranges("shard-{08..10}.tar"))
    ['shard-08.tar', 'shard-09.tar', 'shard-10.tar']
    """
    found = _RANGE.search(pattern)
    if found is None:
        yield pattern
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from expand_ranges(pattern[: found.start()] + str(number).zfill(len(first)) + pattern[found.end() :])


def expanded(path: str, label: str | None, split: str | None) -> Iterator[ImageFile]:
    """Yields the file, or the images in an archive; these inherit the archive's label and split if they have none."""
    if not is_archive(path):
        yield ImageFile.at(path, label, split)
        return
    try:
        for file in list_archive_file(path):
            yield replace(file, label=file.label or label, split=file.split or split)
    except (InputError, OSError) as error:
        yield unusable_file(path, str(error))


def split_folders(root: Path) -> dict[str, str]:
    """Maps the split folders directly in ``root`` to their splits."""
    with os.scandir(root) as entries:
        folders = [entry.name for entry in entries if _is_folder(entry) and is_visible(entry.name)]
    # Only folders with a split name are opened: a class can have a million files.
    return splits_among({name: name.lower() in SPLIT_NAMES and _holds_folders(root / name) for name in folders})


def _holds_folders(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(_is_folder(entry) for entry in entries)
    except OSError:
        return False


def walk(root: str) -> Iterator[str]:
    """Yields the files below ``root``; an unreadable folder is yielded itself, so that it ends in the ledger.

    The walk keeps a list instead of using recursion, so it works at any depth.
    """
    waiting: list[tuple[str, frozenset[tuple[int, int]] | None]] = [(root, frozenset())]
    while waiting:
        path, ancestors = waiting.pop()
        if ancestors is None:
            yield path
            continue
        try:
            own = os.stat(path)  # noqa: PTH116 - scandir gives strings
            with os.scandir(path) as found:
                entries = {entry.name: entry for entry in found}
        except OSError:
            yield path
            continue
        here = (own.st_dev, own.st_ino)
        if here in ancestors:  # a link to a parent folder, which is being listed already
            continue
        if entries.keys() >= STORE_NAMES:
            continue
        within = ancestors | {here}
        names = sorted(filter(is_visible, entries), reverse=True)
        waiting.extend((entries[name].path, within if _is_folder(entries[name]) else None) for name in names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _fixed_part(pattern: str) -> str:
    """Returns the folder of all matches, ending in a separator."""
    parts = pattern.split(os.sep)[:-1]  # noqa: PTH206 - a pattern is not a path
    fixed = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts))
    return "".join(part + os.sep for part in parts[:fixed])
