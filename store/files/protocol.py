"""The operations that a store needs from its storage; ``LocalPath`` and ``ObjectPath`` provide them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self


class OpenFile(Protocol):
    """A file that is open for reading at any offset, from several threads; failures raise ``OSError``."""

    size_bytes: int

    def close(self) -> None:
        """Closes the file; closing it twice is harmless."""

    def drop_cache(self) -> None:
        """Makes later reads bypass the cache, where the storage allows that."""

    def read(self, size: int, offset: int) -> bytes:
        """Returns the bytes from ``offset`` on, fewer at the end of the file."""

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fills the start of ``view`` and returns the number of bytes, 0 at the end of the file."""

    def read_many(self, size: int, offsets: Sequence[int]) -> list[bytes]:
        """Returns ``size`` bytes at each offset."""


class StoragePath(Protocol):
    """The path of a file or folder of a store. Each change is durable when its method returns."""

    @property
    def name(self) -> str:
        """The last part of the path."""

    @property
    def parent(self) -> Self:
        """The folder that contains this path."""

    def __truediv__(self, name: str, /) -> Self: ...

    def exists(self) -> bool:
        """Whether there is a file or folder at this path."""

    def is_dir(self) -> bool:
        """Whether files can be written below this path."""

    def is_symlink(self) -> bool:
        """Whether the path is a symbolic link."""

    def is_relative_to(self, folder: Path, /) -> bool:
        """Whether the path is inside a local folder."""

    def names(self) -> list[str]:
        """Lists the names in a folder, in no order; a missing folder has none, because some copies omit empty ones."""

    def size(self) -> int:
        """Returns the size of a file that never changes; raises ``FileNotFoundError`` if it is missing."""

    def size_and_change(self) -> tuple[int, float]:
        """Returns the size of a file and the time it arrived at this path, in seconds since 1970."""

    def open_file(self) -> OpenFile:
        """Opens the file for reading, without following a symbolic link."""

    def read_start(self, most_bytes: int) -> bytes:
        """Reads the file, or at most its first ``most_bytes``."""

    def local_copy(self, cache: Path) -> Path:
        """Returns a local file with this content; an object is downloaded into ``cache`` when it has changed."""

    def make_folder(self) -> None:
        """Makes this folder and its missing parents."""

    def sync_folder(self) -> None:
        """Makes the names in this folder durable."""

    def publish(self, temporary: Path) -> None:
        """Commits a finished local file under this path and replaces any file that is there."""

    def publish_if_absent(self, temporary: Path) -> bool:
        """Commits a finished local file unless this path is taken; returns whether it did."""

    def write_if_absent(self, data: bytes) -> bool:
        """Writes a small file unless this path is taken; returns whether it did."""

    def move_to(self, target: Self) -> bool:
        """Moves a file; returns False if it was gone. The caller makes the names durable with ``sync_folder``."""

    def remove(self) -> bool:
        """Removes a file; returns False if it was gone."""
