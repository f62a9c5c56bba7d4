"""One image to be read: its path, size, label and split, and how folder names give label and split."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from penult.errors import ImageError

# How people spell the three splits, in folder names and in tables.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
}

TAR_SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")

ARCHIVE_SUFFIXES = (*TAR_SUFFIXES, ".zip")

# Files that operating systems leave in folders and archives.
SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "__macosx"})


class ImageReader(Protocol):
    """Reads images that are not plain files; all images of one archive or server share one, across threads."""

    def read(self, file: "ImageFile", max_bytes: int) -> bytes:
        """Returns the bytes of an image.

        Raises:
            ImageError: the image can never be read, or has more than ``max_bytes``.
            OSError: the image cannot be read now; a later attempt may succeed.
        """


@dataclass(slots=True, unsafe_hash=True)  # not frozen, which is three times as slow, a million times per job
class ImageFile:
    """One file that should be an image. ``size`` is -1 if the file cannot be inspected.

    ``mtime_ns`` changes whenever the file may have changed. Images that are not plain files have a ``reader``, and an
    ``offset`` that this reader understands.
    """

    path: str
    size: int
    mtime_ns: int
    label: str | None = None
    split: str | None = None
    reader: ImageReader | None = field(default=None, compare=False, repr=False)
    offset: int = field(default=0, compare=False, repr=False)

    @classmethod
    def at(cls, path: str, label: str | None = None, split: str | None = None) -> "ImageFile":
        """Returns the file with its size and time; a missing file fails later, with a row in the ledger."""
        try:
            found = os.stat(path)  # noqa: PTH116 - runs for every image of a collection, so no Path is created
        except (OSError, ValueError):  # a path with a zero byte raises ValueError
            return cls(path, -1, 0, label, split)
        return cls(path, found.st_size, found.st_mtime_ns, label, split)


@dataclass(frozen=True)
class Unusable:
    """A reader for images that cannot be read; it raises the reason."""

    reason: str

    def read(self, file: ImageFile, max_bytes: int) -> bytes:
        """Raises ImageError."""
        raise ImageError(self.reason)


def unusable_file(path: str, reason: str, size: int = -1, mtime_ns: int = 0) -> ImageFile:
    """Returns a file that cannot be read for ``reason``, so that it ends in the ledger."""
    return ImageFile(path, size, mtime_ns, reader=Unusable(reason))


def is_listed(name: str) -> bool:
    """Returns whether a file or folder of this name belongs to a collection: not hidden, not a system file."""
    return not name.startswith(".") and name.lower() not in SYSTEM_FILES


def is_archive(path: str) -> bool:
    """Returns whether the suffix of ``path`` is that of an archive."""
    return path[-max(map(len, ARCHIVE_SUFFIXES)) :].lower().endswith(ARCHIVE_SUFFIXES)


def is_remote(text: str) -> bool:
    """Returns whether ``text`` is a URL.

    >>> is_remote("s3://bucket/photos"), is_remote("photos")
    (True, False)
    """
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", text) is not None


def find_splits(folders: Mapping[str, bool]) -> dict[str, str]:
    """Returns the top folders that are splits rather than classes, and the split of each.

    ``folders`` maps each name to whether the folder contains folders. A folder with a split's name is a split if any
    such folder contains folders, and if there are several of them or no other folders. So ``train`` next to ``car``
    and ``boat`` is a class of vehicles, and a ``test`` without class folders is a split whose images have no label.

    >>> find_splits({"train": True, "test": False})
    {'train': 'train', 'test': 'test'}
    >>> find_splits({"train": False, "boat": False})
    {}
    """
    splits = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    is_split = len(splits) > 1 or len(splits) == len(folders)
    return splits if is_split and any(folders[name] for name in splits) else {}


def splits_of_paths(paths: Iterable[Sequence[str]]) -> dict[str, str]:
    """Returns the same as `find_splits`, for paths that are split into their parts."""
    folders: dict[str, bool] = {}
    for parts in paths:
        if len(parts) > 1:
            folders[parts[0]] = folders.get(parts[0], False) or len(parts) > 2
    return find_splits(folders)


def label_and_split(parts: Sequence[str], splits: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Returns the label and the split of an image from the parts of its path.

    >>> label_and_split(("train", "cat", "7.jpg"), {"train": "train"})
    ('cat', 'train')
    """
    split = splits.get(parts[0])
    depth = 0 if split is None else 1
    return (parts[depth] if len(parts) > depth + 1 else None), split
