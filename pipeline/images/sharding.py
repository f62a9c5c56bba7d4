"""One of n equal parts of a collection, the same on every machine: for jobs that share work without talking."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypeVar

from penult.errors import InputError


class HasPath(Protocol):
    """What has a path as text."""

    @property
    def path(self) -> str:
        """The path."""


File = TypeVar("File", bound=HasPath)


def parse_shard(text: str) -> tuple[int, int]:
    """Reads ``i/n``: the i-th of n parts, counted from 1.

    >>> parse_shard("3/16")
    (3, 16)
    """
    found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    number, count = (int(part) for part in found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise InputError(f"The shard is {text!r}", expected="i/n with i from 1 to n, such as 1/4, 2/4, 3/4 and 4/4")
    return number, count


def files_of_shard(files: Iterable[File], shard: str, source: str | Path | None = None) -> list[File]:
    """Returns the files of this part; each file belongs to exactly one of the n.

    A path counts from the folder ``source``, or from the folder of the table ``source``, so that machines that mount
    the same folder at different places agree. It depends on nothing else: files added later move no other.
    """
    number, count = parse_shard(shard)
    root = ""
    if source is not None:
        place = Path(os.path.abspath(source))  # noqa: PTH100 - as the listing does it, which follows no link
        root = os.path.join(place if place.is_dir() else place.parent, "")  # noqa: PTH118 - ends in a separator
    return [file for file in files if _part_of(file.path.removeprefix(root), count) == number]


def _part_of(path: str, count: int) -> int:
    digest = hashlib.blake2b(path.replace(os.sep, "/").encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count + 1
