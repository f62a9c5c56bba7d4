"""A zip archive, read in place: its directory when it is listed, then each image alone."""

import lzma
import stat
import threading
import weakref
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from penult.errors import ImageError, InputError
from penult.pipeline.images.archive_members import ArchiveFile, ArchiveMember, list_members
from penult.pipeline.images.image_file import ImageFile

# How many archives stay open at once: their directories take memory, and each takes one of the few open files.
OPEN_ARCHIVES = 8

_open: "OrderedDict[tuple[str, str], zipfile.ZipFile]" = OrderedDict()
_turn = threading.Lock()


@dataclass(frozen=True)
class Zip:
    """Reads the members of one archive; the offset of an image is its number in the archive's directory."""

    storage: ArchiveFile

    def read(self, file: ImageFile, most_bytes: int) -> bytes:
        """Returns the bytes of a member, unpacked no further than it may be large."""
        archive = _opened(self.storage)
        try:
            with archive.open(archive.infolist()[file.offset]) as member:
                data = member.read(most_bytes + 1)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
            raise ImageError(f"it cannot be unpacked: {error}") from error
        except IndexError:
            raise OSError("the archive has changed since it was listed") from None
        if len(data) > most_bytes:
            raise ImageError(f"the file is too large: more than {most_bytes:,} bytes")
        return data


def list_zip(storage: ArchiveFile) -> Iterator[ImageFile]:
    """Yields the images of a zip archive."""
    try:
        archive = _opened(storage)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InputError(f"{storage.path} cannot be read as a zip archive: {error}", expected="a whole one") from error
    members = {
        info.filename: ArchiveMember(info.file_size, number, _refusal(info))
        for number, info in enumerate(archive.infolist())
        if not info.is_dir()
    }
    yield from list_members(storage, Zip(storage), members)


def _refusal(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "it is a link within an archive, which is not followed"
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "it is no regular file"
    return "it is encrypted" if info.flag_bits & 1 else ""


def _opened(storage: ArchiveFile) -> zipfile.ZipFile:
    name = (storage.path, storage.stamp)
    with _turn:
        archive = _open.pop(name, None) or _open_archive(storage)
        _open[name] = archive
        if len(_open) > OPEN_ARCHIVES:
            _open.popitem(last=False)  # whoever is reading it holds it; after that it is closed
        return archive


def _open_archive(storage: ArchiveFile) -> zipfile.ZipFile:
    file = storage.open()
    try:
        archive = zipfile.ZipFile(file)
    except BaseException:
        file.close()
        raise
    weakref.finalize(archive, file.close)
    return archive
