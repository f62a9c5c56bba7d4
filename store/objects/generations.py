"""Generations: the catalog and the heads of a store in object storage, as one numbered chain.

SQLite needs a file, so each process works on its own copy. A generation is a small object that names one state of the
catalog and of the heads' files. Generation n + 1 follows n; of two processes that write it, one succeeds. The other
merges the new state into its own and tries again.
"""

import hashlib
import logging
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from threading import RLock
from typing import TypeAlias
from uuid import uuid4

from penult.errors import StoreDamagedError, StoreError, StoreWriteError
from penult.store.catalog import Catalog
from penult.store.catalog.merging import ConflictError, back_up, merge, restore, skip_numbers
from penult.store.files.bucket import ObjectPath, write_copy
from penult.store.files.local import temporary_folder
from penult.store.store_folder import put_json, read_json

_log = logging.getLogger(__name__)

FORMAT = "penult-generation"
NAME = re.compile(r"([0-9]{12})\.json")
KEPT = 3
ATTEMPTS = 100

WAIT_SECONDS = 60.0
"""The shortest time between two commits of rows that can be found again, such as seen files."""
WAIT_TIMES = 20
"""The next such commit also waits this many times the duration of the last one."""

HeadFiles: TypeAlias = Mapping[str, str]
"""The name of each file of a head, and its SHA-256."""


@dataclass(frozen=True)
class Generation:
    """One state of a store: the name of the catalog object, and the files of each head."""

    number: int = 0
    catalog: str = ""
    heads: Mapping[str, HeadFiles] = field(default_factory=dict)


class Generations:
    """The generations of one store, and this process's copy of the newest."""

    def __init__(self, root: ObjectPath, local: Path) -> None:
        self._root = root
        self._places = {part: root / part for part in ("generations", "catalog", "heads")}
        self.heads_path = local / "heads"
        self._folder = temporary_folder(self)
        self._base_file = self._folder / "base.sqlite"
        self._lock = RLock()
        self._due = 0.0

    def open_catalog(self) -> Catalog:
        """Opens a copy of the newest catalog; later changes to it are committed."""
        path = self._folder / "catalog.sqlite"
        self._base = self._newest(self._base_file)
        if self._base.catalog or self._copied_catalog():
            shutil.copyfile(self._base_file, path)
        self._catalog = Catalog(path)
        if not self._base.catalog:
            back_up(self._catalog.database, self._base_file)
            _fetch_copied_heads(self._places["heads"], self._catalog.heads.all(), self.heads_path)
        _fetch_heads(self._places["heads"], self._base.heads, self.heads_path)
        skip_numbers(self._catalog.database)
        self._catalog.database.on_change = self._changed
        self._due = time.monotonic() + WAIT_SECONDS
        return self._catalog

    def _copied_catalog(self) -> bool:
        """Downloads the catalog of a store that was copied from a disk; returns whether there is one."""
        names = self._root.names()
        if "catalog.sqlite-wal" in names:
            raise StoreDamagedError(
                f"{self._root} was copied while a process wrote to its catalog",
                expected="a closed catalog, without catalog.sqlite-wal",
                remedy="copy catalog.sqlite again when no process uses the store, and remove that object",
            )
        if "catalog.sqlite" in names:
            (self._root / "catalog.sqlite").fetch(self._base_file)
        return "catalog.sqlite" in names

    def _numbers(self) -> list[int]:
        found = (NAME.fullmatch(name) for name in self._places["generations"].names())
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def _newest(self, file: Path) -> Generation:
        """Returns the newest generation, and downloads its catalog into a file."""
        for _ in range(ATTEMPTS):
            number = max(self._numbers(), default=0)
            if not number:
                return Generation()
            try:
                found = self._read(number)
                (self._places["catalog"] / found.catalog).fetch(file)
            except FileNotFoundError:
                continue  # removed since the listing, so there is a newer one
            return found
        raise StoreDamagedError(
            f"{self._root} names a catalog that is missing",
            expected="a complete store",
            remedy="copy the store again from the original; the features are safe",
        )

    def _read(self, number: int) -> Generation:
        content, _ = read_json(self._places["generations"] / f"{number:012d}.json", FORMAT)
        return Generation(number, content["catalog"], content["heads"])

    def _changed(self, may_wait: bool) -> None:
        if may_wait and time.monotonic() < self._due:
            return
        began = time.monotonic()
        try:
            with self._lock:
                self._commit()
        except StoreError as error:
            if not may_wait:
                raise
            _log.warning("the catalog will be committed later: %s", error)
        now = time.monotonic()
        self._due = now + max(WAIT_SECONDS, WAIT_TIMES * (now - began))

    def _commit(self) -> None:
        """Makes this process's state the newest generation, merged with what others have committed."""
        for _ in range(ATTEMPTS):
            if max(self._numbers(), default=0) != self._base.number:
                self._merge_newest()
            outgoing = self._folder / "outgoing.sqlite"
            back_up(self._catalog.database, outgoing)
            ours = Generation(self._base.number + 1, f"{uuid4().hex}.sqlite", self._heads())
            catalog = self._places["catalog"] / ours.catalog
            catalog.put(outgoing)
            _put_heads(self._places["heads"], ours.heads, self._base.heads, self.heads_path)
            content = {"number": ours.number, "catalog": ours.catalog, "heads": dict(ours.heads)}
            if put_json(self._places["generations"] / f"{ours.number:012d}.json", FORMAT, content):
                self._base = ours
                outgoing.replace(self._base_file)
                self._prune()
                return
            catalog.remove()
        raise StoreWriteError(
            f"Other processes change {self._root} faster than it can be written", remedy="run the same command again"
        )

    def _heads(self) -> dict[str, HeadFiles]:
        return {name: _digests_of(self.heads_path / name) for name in self._catalog.heads.all()}

    def _merge_newest(self) -> None:
        """Merges the newest generation into this process's state, or reverts this process's change on a conflict."""
        theirs = self._folder / "theirs.sqlite"
        found, mine = self._newest(theirs), _changed_heads(self._base.heads, self._heads())
        conflict = None
        try:
            merge(self._catalog.database, self._base_file, theirs)
        except ConflictError as error:
            restore(self._catalog.database, theirs)
            conflict = error
        theirs.replace(self._base_file)
        self._base = found
        others = {name: files for name, files in found.heads.items() if name not in mine}
        _fetch_heads(self._places["heads"], others, self.heads_path)
        if conflict:
            raise StoreWriteError(
                f"Another process has committed to {self._root} at the same time: {conflict}",
                expected="one change at a time",
                remedy="run the same command again; it then follows the other change",
            ) from conflict

    def _prune(self) -> None:
        """Removes all but the last few generations, and their catalogs."""
        for number in self._numbers()[KEPT:]:
            try:
                (self._places["catalog"] / self._read(number).catalog).remove()
                (self._places["generations"] / f"{number:012d}.json").remove()
            except (FileNotFoundError, StoreError):
                continue  # another process removes it, or it stays and is harmless


def _digests_of(folder: Path) -> HeadFiles:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _digest(path.read_bytes()) for path in files}


def _changed_heads(before: Mapping[str, HeadFiles], now: Mapping[str, HeadFiles]) -> set[str]:
    return {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}


def _put_heads(place: ObjectPath, now: Mapping[str, HeadFiles], before: Mapping[str, HeadFiles], local: Path) -> None:
    """Uploads the files that are new, each under its digest, so that an unchanged file is uploaded once."""
    known = {digest for files in before.values() for digest in files.values()}
    for name, files in now.items():
        for file, digest in files.items():
            if digest not in known:
                (place / digest).put(local / name / file)


def _fetch_heads(place: ObjectPath, heads: Mapping[str, HeadFiles], local: Path) -> None:
    """Downloads the files whose local copy is missing or different."""
    for name, files in heads.items():
        for file, digest in files.items():
            target = local / name / file
            if PurePosixPath(name, file).is_absolute() or ".." in PurePosixPath(name, file).parts:
                raise StoreDamagedError(
                    f"{place} names the file {file!r} of the head {name!r}", expected="a file inside the head's folder"
                )
            if target.is_file() and _digest(target.read_bytes()) == digest:
                continue
            data = place.bucket.read((place / digest).key)
            if _digest(data) != digest:
                raise StoreDamagedError(
                    f"{place / digest} does not have the content that its name states", remedy="train this head again"
                )
            write_copy(target, data)


def _fetch_copied_heads(place: ObjectPath, names: Iterable[str], local: Path) -> None:
    """Downloads the heads of a store that was copied from a disk, whose files have their own names."""
    for name in names:
        for file in _files_below(place / name):
            write_copy(local / name / file, place.bucket.read((place / name / file).key))


def _files_below(place: ObjectPath) -> Iterator[str]:
    for name in place.names():
        inner = list(_files_below(place / name))
        yield from (f"{name}/{each}" for each in inner) if inner else [name]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
