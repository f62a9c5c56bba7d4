"""A tar archive, such as a shard of WebDataset, read in place: its headers when it is listed, then each image alone."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

from penult.errors import ImageError, InputError
from penult.pipeline.images.archive_members import ArchiveFile, ArchiveMember, list_members
from penult.pipeline.images.image_file import ImageFile, unusable_file

# How compressed files begin. To read one image of them would mean to unpack all before it.
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

# No header is longer; one that claims to be would take as much memory.
MOST_HEADER_BYTES = 1 << 24


@dataclass(frozen=True)
class Tar:
    """Reads the members of one archive."""

    storage: ArchiveFile

    def read(self, file: ImageFile, most_bytes: int) -> bytes:
        """Returns the bytes of a member, which begin at its offset."""
        if file.size > most_bytes:
            raise ImageError(f"the file is too large: more than {most_bytes:,} bytes")
        data = self.storage.read(file.offset, file.size)
        if len(data) < file.size:
            raise ImageError("the archive ends within it")
        return data


def list_tar(storage: ArchiveFile) -> Iterator[ImageFile]:
    """Yields the images of a tar archive."""
    with storage.open() as file:
        start = file.read(8)
        kind = next((name for magic, name in COMPRESSED.items() if start.startswith(magic)), None)
        if kind is not None:
            raise InputError(
                f"{storage.path} is compressed with {kind}",
                expected="a plain tar, of which each image can be read alone",
                remedy="unpack it once to a plain .tar; JPEG files hardly grow by that",
            )
        file.seek(0)
        members, damage = _members(cast("IO[bytes]", _Guarded(file)))
    yield from list_members(storage, Tar(storage), members)
    if damage:
        yield unusable_file(storage.path, damage)


def _members(file: IO[bytes]) -> tuple[dict[str, ArchiveMember], str]:
    """Returns the files by name, of two of one name the later, and what is wrong with the archive."""
    members: dict[str, ArchiveMember] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                cast("Any", tar).members.clear()  # or they would take a kilobyte each
                if not info.isdir():
                    members.pop(info.name, None)
                    members[info.name] = ArchiveMember(info.size, info.offset_data, _refusal(info))
            # tarfile takes a damaged header for the end, which is in truth a block of zeros, or nothing at all.
            file.seek(tar.offset)
            rest = file.read(tarfile.BLOCKSIZE)
            return members, "the archive is damaged: what follows in it is lost" if rest.strip(b"\0") else ""
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        return members, f"the archive is damaged: {error}"


def _refusal(info: tarfile.TarInfo) -> str:
    if info.islnk() or info.issym():
        return "it is a link within an archive, which is not followed"
    if not info.isreg() or info.issparse() or info.size < 0:
        return "it is no regular file"
    return ""


class _Guarded:
    """A file that refuses to be read by more than a header at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims {size:,} bytes")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
