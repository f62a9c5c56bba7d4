"""Images in tar and zip archives, on this machine or remote, listed as if each archive were a folder.

Nothing is unpacked to disk. Links and special files in an archive are not followed; they end in the ledger.
"""

import hashlib
import json
import lzma
import os
import posixpath
import stat
import tarfile
import threading
import weakref
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, cast

from penult.errors import ImageError, InputError
from penult.pipeline.images.image_file import (
    ImageFile,
    ImageReader,
    Unusable,
    is_listed,
    label_and_split,
    splits_of_paths,
    unusable_file,
)

__all__ = ["ArchiveFile", "LocalArchive", "list_archive", "list_archive_file", "stamp_number"]

# In an archive, these suffixes distinguish images from the label files next to them.
IMAGE_SUFFIXES = frozenset(
    {"apng", "avif", "bmp", "dib", "gif", "heic", "heif", "ico", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpg", "jpx"}
    | {"pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"}
)

# Where WebDataset keeps a label, and the names that the label has in a JSON object.
LABEL_SUFFIXES = ("cls", "json")
LABEL_NAMES = ("label", "class", "cls", "class_name")

MAX_LABEL_BYTES = 1 << 16

# The magic bytes of compressed files. Reading one image of such a file would decompress everything before it.
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

# A tar header that claims to be longer is damaged, and reading it would take as much memory.
MAX_HEADER_BYTES = 1 << 24

# Number of zip archives that stay open: each takes memory for its directory, and a file descriptor.
OPEN_ARCHIVES = 8

_LINK = "it is a link in an archive, and links are not followed"
_NOT_REGULAR = "it is not a regular file"

_open_zips: "OrderedDict[tuple[str, str], zipfile.ZipFile]" = OrderedDict()
_open_zips_lock = threading.Lock()


class ArchiveFile(Protocol):
    """An archive from which any range of bytes can be read."""

    @property
    def path(self) -> str:
        """The path or URL; the paths of the images in the archive start with it."""

    @property
    def stamp(self) -> str:
        """A text that changes whenever the file may have changed."""

    def open(self) -> IO[bytes]:
        """Opens the file for reading."""

    def read(self, start: int, count: int) -> bytes:
        """Returns ``count`` bytes, or fewer at the end of the file; raises OSError."""


@dataclass(frozen=True)
class LocalArchive:
    """An archive on this machine."""

    path: str
    stamp: str

    @classmethod
    def at(cls, path: Path) -> "LocalArchive":
        """Returns the archive at ``path``; raises InputError for a pipe or a device, which may never end."""
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} is not a regular file", expected="an archive file")
        return cls(str(path), f"{found.st_size} {found.st_mtime_ns}")

    def open(self) -> IO[bytes]:
        """Opens the file for reading."""
        return Path(self.path).open("rb")

    def read(self, start: int, count: int) -> bytes:
        """Returns ``count`` bytes, or fewer at the end of the file."""
        with open(self.path, "rb", buffering=0) as file:  # noqa: PTH123 - runs once for each image
            file.seek(start, os.SEEK_SET)
            return file.read(count)


def list_archive(archive: ArchiveFile) -> Iterator[ImageFile]:
    """Yields the images of an archive; its suffix decides whether it is read as zip or tar."""
    return _list_zip(archive) if archive.path.lower().endswith(".zip") else _list_tar(archive)


def list_archive_file(path: str | Path) -> Iterator[ImageFile]:
    """Yields the images of an archive on this machine."""
    return list_archive(LocalArchive.at(Path(path)))


def stamp_number(*parts: object) -> int:
    """Returns a hash of ``parts`` that serves as the modification time of an image."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in an archive; ``problem`` says why it cannot be used, if the archive already shows it."""

    size: int
    offset: int
    problem: str = ""


def _list_members(archive: ArchiveFile, reader: ImageReader, members: Mapping[str, _Member]) -> Iterator[ImageFile]:
    """Yields the images among ``members``, which are keyed by their names in the archive.

    WebDataset stores an image next to files that share its name up to the first dot. Such files give the label.
    Otherwise the folders give label and split.
    """
    named = {
        clean: member for name, member in members.items() if all(map(is_listed, (clean := _clean(name)).split("/")))
    }
    samples: dict[str, list[str]] = {}
    for name in named:
        samples.setdefault(_stem(name), []).append(name)
    labels = {stem: _sample_label(names, named, reader) for stem, names in samples.items() if _has_extra_files(names)}
    splits = splits_of_paths(name.split("/") for name in named)
    for name, member in named.items():
        stem = _stem(name)
        if stem in labels and not _is_image(name):
            continue
        label, split = label_and_split(name.split("/"), splits)
        yield ImageFile(
            path=f"{archive.path}/{name}",
            size=member.size,
            mtime_ns=stamp_number(archive.stamp, member.offset),
            label=labels.get(stem) or label,
            split=split,
            reader=Unusable(member.problem) if member.problem else reader,
            offset=member.offset,
        )


def _clean(name: str) -> str:
    """Returns the name without ``..``, so that it is unique and stays below the archive's path."""
    return posixpath.normpath("/" + name.replace("\\", "/").replace("\0", "")).lstrip("/")


def _stem(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.split(".")[0]


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix[1:].lower() in IMAGE_SUFFIXES


def _has_extra_files(names: Sequence[str]) -> bool:
    return len(names) > 1 and 0 < sum(map(_is_image, names)) < len(names)


def _sample_label(names: Sequence[str], members: Mapping[str, _Member], reader: ImageReader) -> str | None:
    """Returns the label in the first label file that has one."""
    for suffix in LABEL_SUFFIXES:
        for name in names:
            member = members[name]
            if name.lower().endswith("." + suffix) and not member.problem and member.size <= MAX_LABEL_BYTES:
                with suppress(ImageError, OSError, ValueError, RecursionError):
                    file = ImageFile(name, member.size, 0, offset=member.offset)
                    text = reader.read(file, MAX_LABEL_BYTES).decode()
                    label = text if suffix == "cls" else _json_label(json.loads(text))
                    if label and label.strip():
                        return label.strip()
    return None


def _json_label(content: object) -> str | None:
    if not isinstance(content, dict):
        return None
    values = (content.get(name) for name in LABEL_NAMES)
    return next((str(value) for value in values if isinstance(value, str | int)), None)


@dataclass(frozen=True)
class _TarReader:
    """Reads the members of one tar archive."""

    archive: ArchiveFile

    def read(self, file: ImageFile, max_bytes: int) -> bytes:
        if file.size > max_bytes:
            raise ImageError(f"the file is too large: more than {max_bytes:,} bytes")
        data = self.archive.read(file.offset, file.size)
        if len(data) < file.size:
            raise ImageError("the archive is truncated: it ends in the middle of this file")
        return data


def _list_tar(archive: ArchiveFile) -> Iterator[ImageFile]:
    with archive.open() as file:
        start = file.read(8)
        kind = next((name for magic, name in COMPRESSED.items() if start.startswith(magic)), None)
        if kind is not None:
            raise InputError(
                f"{archive.path} is compressed with {kind}",
                expected="an uncompressed tar, where each image can be read alone",
                remedy="decompress it once to a plain .tar; JPEG files hardly grow",
            )
        file.seek(0)
        members, damage = _tar_members(cast("IO[bytes]", _LimitedReads(file)))
    yield from _list_members(archive, _TarReader(archive), members)
    if damage:
        yield unusable_file(archive.path, damage)


def _tar_members(file: IO[bytes]) -> tuple[dict[str, _Member], str]:
    """Returns the files by name (the last one of each name), and what is damaged in the archive."""
    members: dict[str, _Member] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                cast("Any", tar).members.clear()  # tarfile would keep a kilobyte for each
                if not info.isdir():
                    members.pop(info.name, None)
                    members[info.name] = _Member(info.size, info.offset_data, _tar_problem(info))
            # tarfile stops at a damaged header as if it were the end. The real end is a block of zeros, or nothing.
            file.seek(tar.offset)
            rest = file.read(tarfile.BLOCKSIZE)
            return members, "the archive is damaged: the files after this point are lost" if rest.strip(b"\0") else ""
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        return members, f"the archive is damaged: {error}"


def _tar_problem(info: tarfile.TarInfo) -> str:
    if info.islnk() or info.issym():
        return _LINK
    return "" if info.isreg() and not info.issparse() and info.size >= 0 else _NOT_REGULAR


class _LimitedReads:
    """A file that raises an error for reads longer than a header."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims {size:,} bytes")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@dataclass(frozen=True)
class _ZipReader:
    """Reads the members of one zip archive; an image's offset is its index in the archive's directory."""

    archive: ArchiveFile

    def read(self, file: ImageFile, max_bytes: int) -> bytes:
        opened = _open_zip(self.archive)
        try:
            with opened.open(opened.infolist()[file.offset]) as member:
                data = member.read(max_bytes + 1)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
            raise ImageError(f"it cannot be decompressed: {error}") from error
        except IndexError:
            raise OSError("the archive has changed since it was listed") from None
        if len(data) > max_bytes:
            raise ImageError(f"the file is too large: more than {max_bytes:,} bytes")
        return data


def _list_zip(archive: ArchiveFile) -> Iterator[ImageFile]:
    try:
        opened = _open_zip(archive)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{archive.path} cannot be read as a zip archive: {error}", expected="a complete zip file"
        ) from error
    members = {
        info.filename: _Member(info.file_size, number, _zip_problem(info))
        for number, info in enumerate(opened.infolist())
        if not info.is_dir()
    }
    yield from _list_members(archive, _ZipReader(archive), members)


def _zip_problem(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return _LINK
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return _NOT_REGULAR
    return "it is encrypted" if info.flag_bits & 1 else ""


def _open_zip(archive: ArchiveFile) -> zipfile.ZipFile:
    name = (archive.path, archive.stamp)
    with _open_zips_lock:
        opened = _open_zips.pop(name, None) or _new_zip(archive)
        _open_zips[name] = opened
        if len(_open_zips) > OPEN_ARCHIVES:
            _open_zips.popitem(last=False)  # it is closed when its last reader drops it
        return opened


def _new_zip(archive: ArchiveFile) -> zipfile.ZipFile:
    file = archive.open()
    try:
        opened = zipfile.ZipFile(file)
    except BaseException:
        file.close()
        raise
    weakref.finalize(opened, file.close)
    return opened
