"""One file that an archive is: on this machine or elsewhere, opened or read in part."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from penult.errors import InputError


class Storage(Protocol):
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
class LocalFile:
    """A file of this machine's."""

    path: str
    stamp: str

    @classmethod
    def at(cls, path: Path) -> "LocalFile":
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


def stamp_number(*parts: object) -> int:
    """Returns a number to stand for the time of change, made of all that tells one state of a file from another."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
