"""The record of one image, and its label and split from the names of its folders."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from penult.errors import ImageError

# Common spellings of the three splits, as folder names and in tables.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
}

TAR_SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")

ARCHIVE_SUFFIXES = (*TAR_SUFFIXES, ".zip")

# Files that operating systems add to folders and archives.
LITTER = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "__macosx"})


def is_visible(name: str) -> bool:
    """Returns whether a file or folder belongs to the collection: it is neither hidden nor a system file."""
    return not name.startswith(".") and name.lower() not in LITTER


def splits_among(folders: Mapping[str, bool]) -> dict[str, str]:
    """Maps the topmost folders that are splits rather than classes to their splits.

    ``folders`` says for each folder whether it contains folders. A folder with a split name, such as ``train``, is a
    split under two conditions. It or another folder with a split name must contain folders. And it must not be the
    only one among other names: next to ``car`` and ``boat``, ``train`` is a class. So images of a ``test`` folder
    without class folders have no label, instead of the label "test".

    >>> splits_among({"train": True, "test": False})
    {'train': 'train', 'test': 'test'}
    >>> splits_among({"train": False, "boat": False})
    {}
    """
    splits = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    is_split = len(splits) > 1 or len(splits) == len(folders)
    return splits if is_split and any(folders[name] for name in splits) else {}


def splits_of_paths(paths: Iterable[Sequence[str]]) -> dict[str, str]:
    """Does the same for paths that are given as their parts."""
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
    """Reads images that are not plain files; one object serves all images of a source, from several threads."""

    def read(self, file: "ImageFile", most_bytes: int) -> bytes:
        """Returns the bytes of an image.

        Raises:
            ImageError: the image can never be read, or has more than ``most_bytes``.
            OSError: the image cannot be read now, but perhaps later.
        """


@dataclass(slots=True, unsafe_hash=True)  # frozen=True would take three times as long to create
class ImageFile:
    """One file that should be an image. ``size`` is -1 if it is unknown.

    ``mtime_ns`` changes whenever the file may have changed. An image that is not a plain file has a ``place`` that
    reads it; the meaning of ``offset`` is up to the place.
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
        """Returns the image at ``path`` with size and time; a missing file fails later, with a ledger entry."""
        try:
            found = os.stat(path)  # noqa: PTH116 - called for every image; a Path would be slow
        except (OSError, ValueError):  # a path with a zero byte is a ValueError
            return cls(path, -1, 0, label, split)
        return cls(path, found.st_size, found.st_mtime_ns, label, split)


def is_archive(path: str) -> bool:
    """Returns whether the suffix of a file is that of an archive."""
    return path[-max(map(len, ARCHIVE_SUFFIXES)) :].lower().endswith(ARCHIVE_SUFFIXES)


def is_remote(text: str) -> bool:
    """Returns whether ``text`` is a URL.

    >>> is_remote("s3://bucket/photos"), is_remote("photos")
    (True, False)
    """
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", text) is not None


@dataclass(frozen=True)
class Unusable:
    """A place that raises the reason why an image cannot be used."""

    reason: str

    def read(self, file: ImageFile, most_bytes: int) -> bytes:
        """Raises ImageError."""
        raise ImageError(self.reason)


def unusable_file(path: str, reason: str, size: int = -1, mtime_ns: int = 0) -> ImageFile:
    """Returns an image that fails with ``reason``."""
    return ImageFile(path, size, mtime_ns, place=Unusable(reason))
