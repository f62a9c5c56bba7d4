"""The members of an archive become images: named as if the archive were a folder, with labels and splits.

Nothing is ever unpacked to disk, so that a name can lead nowhere. What is no regular file is not followed, but told.
"""

import hashlib
import json
import os
import posixpath
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from penult.errors import ImageError, InputError
from penult.pipeline.images.image_file import ImageFile, Place, Unusable, is_visible, label_and_split, splits_of_paths


class ArchiveFile(Protocol):
    """A file that can be read at any place."""

    @property
    def path(self) -> str:
        """Its name, which the names of the images in it begin with."""

    @property
    def stamp(self) -> str:
        """Another text whenever the file may have changed."""

    def open(self) -> IO[bytes]:
        """Opens it for reading."""

    def read(self, start: int, count: int) -> bytes:
        """Returns ``count`` bytes, or fewer where the file ends; raises OSError."""


@dataclass(frozen=True)
class LocalArchive:
    """A file of this machine's."""

    path: str
    stamp: str

    @classmethod
    def at(cls, path: Path) -> "LocalArchive":
        """Looks at the file; raises InputError for a pipe or a device, which may never end."""
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} is no regular file", expected="an archive, which is one")
        return cls(str(path), f"{found.st_size} {found.st_mtime_ns}")

    def open(self) -> IO[bytes]:
        """Opens it for reading."""
        return Path(self.path).open("rb")

    def read(self, start: int, count: int) -> bytes:
        """Returns ``count`` bytes, or fewer where the file ends."""
        with open(self.path, "rb", buffering=0) as file:  # noqa: PTH123 - once for each image
            file.seek(start, os.SEEK_SET)
            return file.read(count)


def stamp_to_mtime(*parts: object) -> int:
    """Returns a number to stand for the time of change, made of all that tells one state of a file from another."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


# By these endings it is known which of the files that share a name is the image, and which only tell of it.
IMAGE_SUFFIXES = frozenset(
    {"apng", "avif", "bmp", "dib", "gif", "heic", "heif", "ico", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpg", "jpx"}
    | {"pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"}
)

# What WebDataset keeps a label in, and the names that it has in a JSON object.
LABEL_SUFFIXES = ("cls", "json")
LABEL_NAMES = ("label", "class", "cls", "class_name")

MOST_LABEL_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A file in an archive; ``refusal`` says why it cannot be used, where the archive itself tells."""

    size: int
    offset: int
    refusal: str = ""


def list_members(storage: ArchiveFile, place: Place, members: Mapping[str, ArchiveMember]) -> Iterator[ImageFile]:
    """Yields the images among ``members``, whose names are those in the archive.

    Where an image shares its name up to the first dot with files of other kinds, these are its label and further data,
    as WebDataset writes them. Otherwise its label and split are those of its folders.
    """
    named = {
        clean: member for name, member in members.items() if all(map(is_visible, (clean := _clean(name)).split("/")))
    }
    companions: dict[str, list[str]] = {}
    for name in named:
        companions.setdefault(_stem(name), []).append(name)
    told = {stem: _companion_label(names, named, place) for stem, names in companions.items() if _has_companions(names)}
    splits = splits_of_paths(name.split("/") for name in named)
    for name, member in named.items():
        stem = _stem(name)
        if stem in told and not _is_image(name):
            continue
        label, split = label_and_split(name.split("/"), splits)
        yield ImageFile(
            path=f"{storage.path}/{name}",
            size=member.size,
            mtime_ns=stamp_to_mtime(storage.stamp, member.offset),
            label=told.get(stem) or label,
            split=split,
            place=Unusable(member.refusal) if member.refusal else place,
            offset=member.offset,
        )


def _clean(name: str) -> str:
    """Returns the name without steps upwards, so that it is unique and only looks like a path below the archive."""
    return posixpath.normpath("/" + name.replace("\\", "/").replace("\0", "")).lstrip("/")


def _stem(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.split(".")[0]


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix[1:].lower() in IMAGE_SUFFIXES


def _has_companions(names: Sequence[str]) -> bool:
    return len(names) > 1 and 0 < sum(map(_is_image, names)) < len(names)


def _companion_label(names: Sequence[str], members: Mapping[str, ArchiveMember], place: Place) -> str | None:
    """Returns the label that the first of the label files tells, if any does."""
    for suffix in LABEL_SUFFIXES:
        for name in names:
            member = members[name]
            if name.lower().endswith("." + suffix) and not member.refusal and member.size <= MOST_LABEL_BYTES:
                with suppress(ImageError, OSError, ValueError, RecursionError):
                    text = place.read(ImageFile(name, member.size, 0, offset=member.offset), MOST_LABEL_BYTES).decode()
                    label = text if suffix == "cls" else _named(json.loads(text))
                    if label and label.strip():
                        return label.strip()
    return None


def _named(content: object) -> str | None:
    if not isinstance(content, dict):
        return None
    values = (content.get(name) for name in LABEL_NAMES)
    return next((str(value) for value in values if isinstance(value, str | int)), None)
