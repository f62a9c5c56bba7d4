"""The files of heads: kept as objects that are named by their content, so that what does not change is put once."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from penult.errors import StoreDamagedError
from penult.store.files.mirroring import keep
from penult.store.files.places import ObjectPath

HeadFiles: TypeAlias = Mapping[str, str]
"""The SHA-256 of each file of a head under its name."""


def digests_of(folder: Path) -> HeadFiles:
    """Looks at the files of a head."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _digest(path.read_bytes()) for path in files}


def changed_heads(before: Mapping[str, HeadFiles], now: Mapping[str, HeadFiles]) -> set[str]:
    """Names the heads that have come, gone, or changed."""
    return {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}


def put_heads(place: ObjectPath, now: Mapping[str, HeadFiles], before: Mapping[str, HeadFiles], here: Path) -> None:
    """Puts the files that are new."""
    known = {digest for files in before.values() for digest in files.values()}
    for name, files in now.items():
        for file, digest in files.items():
            if digest not in known:
                place.bucket.put((place / digest).key, here / name / file)


def fetch_heads(place: ObjectPath, heads: Mapping[str, HeadFiles], here: Path) -> None:
    """Fetches the files that are not here, or here in another state."""
    for name, files in heads.items():
        for file, digest in files.items():
            target = here / name / file
            if PurePosixPath(name, file).is_absolute() or ".." in PurePosixPath(name, file).parts:
                raise StoreDamagedError(
                    f"{place} names the file {file!r} of the head {name!r}", expected="one of its own"
                )
            if target.is_file() and _digest(target.read_bytes()) == digest:
                continue
            data = place.bucket.read((place / digest).key)
            if _digest(data) != digest:
                raise StoreDamagedError(f"{place / digest} is not what its name says", remedy="train this head again")
            keep(target, data)


def fetch_copied_heads(place: ObjectPath, names: Iterable[str], here: Path) -> None:
    """Fetches the heads of a store that was copied from a disk, whose files bear their own names."""
    for name in names:
        for file in _below(place / name):
            data = place.bucket.read((place / name / file).key)
            keep(here / name / file, data)


def _below(place: ObjectPath) -> Iterator[str]:
    for name in place.bucket.names(place.key):
        inner = list(_below(place / name))
        yield from (f"{name}/{each}" for each in inner) if inner else [name]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
