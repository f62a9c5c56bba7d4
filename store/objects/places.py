"""Places: where files of a store lie, in folders of this machine or as objects of a bucket."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from penult.store.objects.bucket import Bucket


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
