"""What the place of an image tells: its class and its split, from the names of the folders that it lies in."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from penult.errors import ImageError

# How people spell the three splits, as folder names and in tables.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
}

TAR_SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")

ARCHIVE_SUFFIXES = (*TAR_SUFFIXES, ".zip")

# What operating systems leave in folders and archives beside the images.
LITTER = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "__macosx"})


def is_visible(name: str) -> bool:
    """Tells whether a file or folder of this name is one of the collection, and not hidden or litter."""
    return not name.startswith(".") and name.lower() not in LITTER


def splits_among(folders: Mapping[str, bool]) -> dict[str, str]:
    """Returns which of the topmost folders are splits rather than classes, and which split each is.

    ``folders`` tells of each whether it holds folders. A folder called ``train`` is a split if it, or another one
    called as a split is, holds folders, and if it is not alone among folders of other names: beside ``car`` and
    ``boat`` it is a class of vehicles. So the images of a ``test`` without class folders have no label, rather than
    the label "test".

    >>> splits_among({"train": True, "test": False})
    {'train': 'train', 'test': 'test'}
    >>> splits_among({"train": False, "boat": False})
    {}
    """
    splits = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    is_split = len(splits) > 1 or len(splits) == len(folders)
    return splits if is_split and any(folders[name] for name in splits) else {}


def splits_of_paths(paths: Iterable[Sequence[str]]) -> dict[str, str]:
    """Returns the same for paths that are known as their parts."""
    folders: dict[str, bool] = {}
    for parts in paths:
        if len(parts) > 1:
            folders[parts[0]] = folders.get(parts[0], False) or len(parts) > 2
    return splits_among(folders)


def label_and_split(parts: Sequence[str], splits: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Returns the label and the split of an image from the parts of its path.

    >>> label_and_split(("train", "cat", "7.jpg"), {"train": "train"})
    ('cat', 'train')
    """
    split = splits.get(parts[0])
    depth = 0 if split is None else 1
    return (parts[depth] if len(parts) > depth + 1 else None), split


class Place(Protocol):
    """Where images lie that are no plain files; shared by all images in it, and asked from several threads."""

    def read(self, file: "ImageFile", most_bytes: int) -> bytes:
        """Returns the bytes of an image.

        Raises:
            ImageError: they can never be had, or there are more than ``most_bytes``.
            OSError: they cannot be had now, and perhaps at another time.
        """


@dataclass(slots=True, unsafe_hash=True)  # not frozen, for that takes three times as long, a million times a job
class ImageFile:
    """One file that should be an image. ``size`` is -1 where the file could not even be looked at.

    ``mtime_ns`` is another number whenever the file may have changed. Images that are no plain files lie in a
    ``place``, at an ``offset`` that it understands.
    """

    path: str
    size: int
    mtime_ns: int
    label: str | None = None
    split: str | None = None
    place: Place | None = field(default=None, compare=False, repr=False)
    offset: int = field(default=0, compare=False, repr=False)

    @classmethod
    def at(cls, path: str, label: str | None = None, split: str | None = None) -> "ImageFile":
        """Looks at the file's size and time; a file that is not there fails later, with a row in the ledger."""
        try:
            found = os.stat(path)  # noqa: PTH116 - called for every image of a collection: no Path is made
        except (OSError, ValueError):  # a path with a zero byte is a ValueError
            return cls(path, -1, 0, label, split)
        return cls(path, found.st_size, found.st_mtime_ns, label, split)


def is_archive(path: str) -> bool:
    """Tells by its name whether a file is read as an archive of images."""
    return path[-max(map(len, ARCHIVE_SUFFIXES)) :].lower().endswith(ARCHIVE_SUFFIXES)


def is_remote(text: str) -> bool:
    """Tells whether ``text`` is a URL.

    >>> is_remote("s3://bucket/photos"), is_remote("photos")
    (True, False)
    """
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", text) is not None


@dataclass(frozen=True)
class Unusable:
    """Gives no bytes, but the reason why."""

    reason: str

    def read(self, file: ImageFile, most_bytes: int) -> bytes:
        """Raises ImageError."""
        raise ImageError(self.reason)


def unusable_file(path: str, reason: str, size: int = -1, mtime_ns: int = 0) -> ImageFile:
    """Returns a file that cannot be used, for ``reason``."""
    return ImageFile(path, size, mtime_ns, place=Unusable(reason))
