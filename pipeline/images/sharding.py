"""Splits a collection into n parts that every machine computes alike, for jobs that run without a coordinator."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypeVar

from penult.errors import InputError


class HasPath(Protocol):
    """Anything with a path as text."""

    @property
    def path(self) -> str:
        """The path."""


File = TypeVar("File", bound=HasPath)


def parse_shard(text: str) -> tuple[int, int]:
    """Returns (i, n) of the text ``i/n``: the i-th of n parts, counted from 1.

    >>> parse_shard("3/16")
    (3, 16)
    """
    found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    number, count = (int(part) for part in found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise InputError(f"The shard is {text!r}", expected="i/n with i from 1 to n, such as 1/4, 2/4, 3/4 and 4/4")
    return number, count


def files_of_shard(files: Iterable[File], shard: str, source: str | Path | None = None) -> list[File]:
    """Returns the files of part ``shard``; each file belongs to exactly one of the n parts.

    The part depends only on the file's path relative to the folder ``source``, or to the folder of the table
    ``source``. So machines that mount the same folder at different paths agree, and new files move no other.
    """
    number, count = parse_shard(shard)
    root = ""
    if source is not None:
        base = Path(os.path.abspath(source))  # noqa: PTH100 - like `list_images`, which does not resolve links
        root = os.path.join(base if base.is_dir() else base.parent, "")  # noqa: PTH118 - ends with a separator
    return [file for file in files if _part_of(file.path.removeprefix(root), count) == number]


def _part_of(path: str, count: int) -> int:
    digest = hashlib.blake2b(path.replace(os.sep, "/").encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count + 1
