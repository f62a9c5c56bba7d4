"""A pattern such as ``photos/2024-*/**/*.jpg`` or ``shards/{000..127}.tar``: every file that it fits."""

import glob
import math
import os
import re
from collections.abc import Iterator

from penult.errors import InputError
from penult.pipeline.images.folder import expanded, walk
from penult.pipeline.images.image_file import ImageFile, label_and_split, splits_of_paths

_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")

# Each name that ranges stand for is looked for on its own.
MOST_NAMES = 1_000_000


def is_pattern(text: str) -> bool:
    """Tells whether ``text`` may stand for several files."""
    return glob.has_magic(text) or _RANGE.search(text) is not None


def list_pattern(pattern: str) -> Iterator[ImageFile]:
    """Yields the files that fit, in the order of their names, and all files of folders that do.

    Class folders and splits are those below the part of the pattern that is no pattern.
    """
    count = math.prod(max(0, int(last) - int(first) + 1) for first, last in _RANGE.findall(pattern))
    if count > MOST_NAMES:
        raise InputError(
            f"The pattern {pattern!r} stands for {count:,} names",
            expected=f"{MOST_NAMES:,} at most",
            remedy="write * in place of a range",
        )
    each = spelled_out(pattern)
    found = {match for one in each for match in glob.iglob(one, recursive=True)}  # noqa: PTH207 - strings
    paths = sorted({path for match in found for path in (walk(match) if os.path.isdir(match) else [match])})  # noqa: PTH112 - strings
    root = _fixed_part(pattern)
    parts = [path[len(root) :].split(os.sep) for path in paths]  # noqa: PTH206 - a Path each would take most of the time
    splits = splits_of_paths(parts)
    for path, names in zip(paths, parts, strict=True):
        yield from expanded(path, *label_and_split(names, splits))


def spelled_out(pattern: str) -> Iterator[str]:
    """Yields the patterns that ranges of numbers stand for.

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
    """Returns the folder, ending in a separator, that all that fits lies in."""
    parts = pattern.split(os.sep)[:-1]  # noqa: PTH206 - the pattern is no path
    fixed = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts))
    return "".join(part + os.sep for part in parts[:fixed])
