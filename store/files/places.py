"""Places: where files of a store lie, in folders of this machine or as objects of a bucket."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from penult.store.files.bucket import Bucket


@dataclass(frozen=True)
class ObjectPath:
    """The place of an object, or of all whose names begin alike; it is put together as paths are."""

    bucket: Bucket
    key: str

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(self.bucket, f"{self.key}/{name}" if name else self.key)

    def __str__(self) -> str:
        return self.bucket.url_of(self.key)

    @property
    def name(self) -> str:
        """What stands behind the last slash."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "ObjectPath":
        """The place above."""
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    def exists(self) -> bool:
        """Whether there is an object of this name."""
        return self.name in self.bucket.names(self.parent.key)

    def is_relative_to(self, folder: Path) -> bool:
        """Whether it lies in a folder of this machine."""
        return False

    def is_dir(self) -> bool:
        """Whether something may be put below: a storage has no folders that would have to be made."""
        return True

    def is_symlink(self) -> bool:
        """Whether it leads elsewhere, which objects do not."""
        return False


Place: TypeAlias = Path | ObjectPath


FIRST_BYTES = 1 << 19
AHEAD_BYTES = 1 << 23


class ObjectFile:
    """An object, read as an open file is."""

    def __init__(self, place: ObjectPath) -> None:
        self._place = place
        self.size_bytes = place.bucket.size(place.key)
        self._held = (0, b"")
        self._next = 0

    def close(self) -> None:
        """Lets go of what was fetched ahead."""
        self.drop_cache()

    def drop_cache(self) -> None:
        """Lets go of what was fetched ahead."""
        self._held = (0, b"")

    def read(self, size: int, offset: int) -> bytes:
        """Returns the bytes from ``offset`` on, fewer where the object ends."""
        start, data = self._held
        if not start <= offset <= offset + size <= start + len(data):
            ahead = FIRST_BYTES if offset == 0 else AHEAD_BYTES if offset == self._next else 0
            end = min(offset + max(size, ahead), self.size_bytes)
            start, data = offset, self._place.bucket.read(self._place.key, offset, end) if end > offset else b""
            self._held = (start, data)
        self._next = offset + size
        return data[offset - start : offset - start + size]

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fills as much of ``view`` as there is from ``offset`` on, and returns how much."""
        data = self.read(len(view), offset)
        view[: len(data)] = data
        return len(data)

    def read_many(self, size: int, offsets: Sequence[int]) -> list[bytes]:
        """Returns many pieces of one size."""
        return self._place.bucket.read_many(self._place.key, size, offsets)
