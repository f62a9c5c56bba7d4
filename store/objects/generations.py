"""Generations: what a store in object storage holds beside its rows, the catalog and the heads, as one numbered chain.

SQLite needs a file, so each process works on a copy of its own. A generation is a small object that names one state of
the catalog and of the heads' files; generation n + 1 is made from n, and of two who try, one succeeds. The other one
takes up what that one has changed, and tries again.
"""

import logging
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from uuid import uuid4

from penult.errors import StoreDamagedError, StoreError, StoreWriteError
from penult.store.catalog import Catalog
from penult.store.catalog.merging import ConflictError, back_up, merge, restore, skip_numbers
from penult.store.files.folders import passing_folder
from penult.store.files.mirroring import fetch
from penult.store.files.places import ObjectPath
from penult.store.objects.heads import HeadFiles, changed_heads, digests_of, fetch_copied_heads, fetch_heads, put_heads
from penult.store.store_folder import put_json, read_json

_log = logging.getLogger(__name__)

FORMAT = "penult-generation"
NAME = re.compile(r"([0-9]{12})\.json")
KEPT = 3
ATTEMPTS = 100

WAIT_SECONDS = 60.0
"""How long others wait at least for what can be found anew; and this many times what a commit takes."""
WAIT_TIMES = 20


@dataclass(frozen=True)
class Generation:
    """One state: the object that is the catalog, and of each head its files, as digests that name objects."""

    number: int = 0
    catalog: str = ""
    heads: Mapping[str, HeadFiles] = field(default_factory=dict)


class Generations:
    """The chain of one store, and this process's copy of its newest link."""

    def __init__(self, root: ObjectPath, here: Path) -> None:
        self._root = root
        self._places = {part: root / part for part in ("generations", "catalog", "heads")}
        self._here = here
        self.heads_path = here / "heads"
        self._room = passing_folder(self)
        self._base_file = self._room / "base.sqlite"
        self._turn = RLock()
        self._due = 0.0

    def open_catalog(self) -> Catalog:
        """Opens a copy of the newest catalog, each change of which is committed from then on."""
        path = self._room / "catalog.sqlite"
        self._base = self._newest(self._base_file)
        if self._base.catalog or self._copied_catalog():
            shutil.copyfile(self._base_file, path)
        self._catalog = Catalog(path)
        if not self._base.catalog:
            back_up(self._catalog.database, self._base_file)
            fetch_copied_heads(self._places["heads"], self._catalog.heads.all(), self.heads_path)
        fetch_heads(self._places["heads"], self._base.heads, self.heads_path)
        skip_numbers(self._catalog.database)
        self._catalog.database.on_change = self._changed
        self._due = time.monotonic() + WAIT_SECONDS
        return self._catalog

    def _copied_catalog(self) -> bool:
        """Fetches the catalog of a store that was copied here from a disk, and says whether there is one."""
        names = self._root.bucket.names(self._root.key)
        if "catalog.sqlite-wal" in names:
            raise StoreDamagedError(
                f"{self._root} was copied while somebody wrote to its catalog",
                expected="a catalog at rest, without catalog.sqlite-wal",
                remedy="copy catalog.sqlite again when no process uses the store, and remove that object",
            )
        if "catalog.sqlite" in names:
            fetch(self._root / "catalog.sqlite", self._base_file)
        return "catalog.sqlite" in names

    def _numbers(self) -> list[int]:
        place = self._places["generations"]
        found = (NAME.fullmatch(name) for name in place.bucket.names(place.key))
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def _newest(self, file: Path) -> Generation:
        """Returns the newest generation, and fetches its catalog into a file."""
        for _ in range(ATTEMPTS):
            number = max(self._numbers(), default=0)
            if not number:
                return Generation()
            try:
                found = self._read(number)
                fetch(self._places["catalog"] / found.catalog, file)
            except FileNotFoundError:
                continue  # removed since the listing, so there are newer ones
            return found
        raise StoreDamagedError(
            f"{self._root} names a catalog that is not there",
            expected="a whole store",
            remedy="copy the store again from where it came; the features are safe",
        )

    def _read(self, number: int) -> Generation:
        content, _ = read_json(self._places["generations"] / f"{number:012d}.json", FORMAT)
        return Generation(number, content["catalog"], content["heads"])

    def _changed(self, may_wait: bool) -> None:
        if may_wait and time.monotonic() < self._due:
            return
        began = time.monotonic()
        try:
            with self._turn:
                self._commit()
        except StoreError as error:
            if not may_wait:
                raise
            _log.warning("the catalog is committed later: %s", error)
        now = time.monotonic()
        self._due = now + max(WAIT_SECONDS, WAIT_TIMES * (now - began))

    def _commit(self) -> None:
        """Makes this process's state the newest generation, with what others have committed meanwhile."""
        for _ in range(ATTEMPTS):
            if max(self._numbers(), default=0) != self._base.number:
                self._take_up()
            outgoing = self._room / "outgoing.sqlite"
            back_up(self._catalog.database, outgoing)
            ours = Generation(self._base.number + 1, f"{uuid4().hex}.sqlite", self._heads())
            catalog = self._places["catalog"] / ours.catalog
            catalog.bucket.put(catalog.key, outgoing)
            put_heads(self._places["heads"], ours.heads, self._base.heads, self.heads_path)
            content = {"number": ours.number, "catalog": ours.catalog, "heads": dict(ours.heads)}
            if put_json(self._places["generations"] / f"{ours.number:012d}.json", FORMAT, content):
                self._base = ours
                outgoing.replace(self._base_file)
                self._prune()
                return
            catalog.bucket.remove(catalog.key)
        raise StoreWriteError(f"{self._root} changes faster than it can be written", remedy="run the same again")

    def _heads(self) -> dict[str, HeadFiles]:
        return {name: digests_of(self.heads_path / name) for name in self._catalog.heads.all()}

    def _take_up(self) -> None:
        """Brings what others have committed into this process's state, or takes that back where both cannot stand."""
        theirs = self._room / "theirs.sqlite"
        found, mine = self._newest(theirs), changed_heads(self._base.heads, self._heads())
        conflict = None
        try:
            merge(self._catalog.database, self._base_file, theirs)
        except ConflictError as error:
            restore(self._catalog.database, theirs)
            conflict = error
        theirs.replace(self._base_file)
        self._base = found
        others = {name: files for name, files in found.heads.items() if name not in mine}
        fetch_heads(self._places["heads"], others, self.heads_path)
        if conflict:
            raise StoreWriteError(
                f"Another process has committed to {self._root} at the same time: {conflict}",
                expected="one that is first",
                remedy="do it again; it then comes after that one's",
            ) from conflict

    def _prune(self) -> None:
        """Removes the generations before the last few, and the catalogs that only they name."""
        for number in self._numbers()[KEPT:]:
            place = self._places["generations"] / f"{number:012d}.json"
            try:
                catalog = self._places["catalog"] / self._read(number).catalog
                catalog.bucket.remove(catalog.key)
                place.bucket.remove(place.key)
            except (FileNotFoundError, StoreError):
                continue  # another process does it, or it lies there and harms nobody
