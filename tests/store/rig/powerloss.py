"""The possible contents of a disk after a power loss: everything flushed, and any part of the rest.

Of a file that was not flushed, each page may be new, old, or torn in the middle, and the size may be either. Of a
folder that was not flushed, each change of a name may be there or not, in any combination.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from random import Random

from penult.store import open_store
from tests.store.rig.samples import batches_at
from tests.store.rig.workload import ALL_BATCHES, space_at, steps

PAGE = 4096


@dataclass(frozen=True)
class Operation:
    """One line of the shim's record."""

    kind: str
    path: str
    other: str
    offset: int
    data: bytes


def operations(log: Path) -> Iterator[Operation]:
    """Reads the shim's record."""
    with log.open("rb") as file:
        while line := file.readline():
            kind, path, other, offset, size = line.decode().rstrip("\n").split("\t")
            yield Operation(kind, path, other, int(offset), file.read(int(size)))


@dataclass
class File:
    """The bytes of a file at its last flush, and its current bytes."""

    flushed: bytes = b""
    present: bytearray = field(default_factory=bytearray)

    def after_loss(self, chance: Random) -> bytes:
        """Returns possible bytes on the disk."""
        size = chance.choice([len(self.flushed), len(self.present), chance.randint(0, len(self.present))])
        result = bytearray()
        for start in range(0, size, PAGE):
            old, new = (bytes(data[start : start + PAGE]).ljust(PAGE, b"\0") for data in (self.flushed, self.present))
            torn = chance.randrange(PAGE)
            result += chance.choice([old, new, new[:torn] + old[torn:], old[:torn] + new[torn:]])
        return self.flushed if self.flushed == self.present else bytes(result[:size])


@dataclass
class Folder:
    """The names in a folder at its last flush, and the changes since then."""

    flushed: dict[str, "File | Folder"] = field(default_factory=dict)
    changes: list[tuple[str, "File | Folder | None"]] = field(default_factory=list)

    def with_changes(self, changes: list[tuple[str, "File | Folder | None"]]) -> dict[str, "File | Folder"]:
        """Returns the names after some changes."""
        names = dict(self.flushed)
        for name, node in changes:
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node
        return names

    def present(self) -> dict[str, "File | Folder"]:
        """Returns the current names."""
        return self.with_changes(self.changes)

    def after_loss(self, chance: Random) -> dict[str, "File | Folder"]:
        """Returns possible names on the disk."""
        share = chance.choice([0.0, 0.3, 0.7, 1.0])
        return self.with_changes([change for change in self.changes if chance.random() < share])


class Disk:
    """A model of a disk that replays recorded operations."""

    def __init__(self, top: Path) -> None:
        self._top = PurePosixPath(top)
        self._root = Folder()

    def play(self, operation: Operation) -> None:
        """Replays one operation."""
        folder, name = self._place(operation.path)
        if operation.kind == "create":
            folder.changes.append((name, File()))
        elif operation.kind == "mkdir":
            folder.changes.append((name, Folder()))
        elif operation.kind == "unlink":
            folder.changes.append((name, None))
        elif operation.kind in {"rename", "link"}:
            target, new_name = self._place(operation.other)
            target.changes.append((new_name, folder.present()[name]))
            if operation.kind == "rename":
                folder.changes.append((name, None))
        elif operation.kind == "write":
            self._write(folder.present()[name], operation)
        elif operation.kind == "sync":
            self._flush(folder.present()[name] if name else folder)
        else:
            raise AssertionError(f"the record holds {operation.kind!r}")

    def _place(self, path: str) -> tuple[Folder, str]:
        folder, parts = self._root, PurePosixPath(path).relative_to(self._top).parts
        for part in parts[:-1]:
            node = folder.present()[part]
            assert isinstance(node, Folder)
            folder = node
        return folder, parts[-1] if parts else ""

    def _write(self, node: File | Folder, operation: Operation) -> None:
        assert isinstance(node, File)
        end = operation.offset + len(operation.data)
        node.present.extend(bytes(max(end - len(node.present), 0)))
        node.present[operation.offset : end] = operation.data

    def _flush(self, node: File | Folder) -> None:
        if isinstance(node, File):
            node.flushed = bytes(node.present)
        else:
            node.flushed, node.changes = node.present(), []

    def lose_power(self, target: Path, chance: Random) -> None:
        """Writes a possible content of the disk into a folder."""
        self._leave(self._root, target, chance)

    def _leave(self, folder: Folder, target: Path, chance: Random) -> None:
        target.mkdir()
        for name, node in folder.after_loss(chance).items():
            if isinstance(node, Folder):
                self._leave(node, target / name, chance)
            else:
                (target / name).write_bytes(node.after_loss(chance))


def lose_power_everywhere(log: Path, top: Path, target: Path, losses: int) -> int:
    """Simulates ``losses`` power losses after each recorded operation, and checks each result; returns their number."""
    chance, record = Random(0), list(operations(log))
    disk, acknowledged, is_made, tries = Disk(top), set[int](), False, 0
    for operation in record:
        if operation.kind != "mark":
            disk.play(operation)
        elif operation.path.startswith("add ") and operation.path[4:].isdigit():
            acknowledged.add(int(operation.path[4:]))
        is_made |= operation.kind == "mark"
        for _ in range(losses):
            disk.lose_power(target, chance)
            if is_made:
                open_store(target / "store", create=False)
            judge(target / "store", acknowledged, is_mended=chance.random() < 0.1)
            shutil.rmtree(target)
            tries += 1
    return tries


def judge(path: Path, acknowledged: set[int], *, is_mended: bool) -> None:
    """Checks that a store contains the acknowledged batches, is undamaged, and accepts rows."""
    found = batches_at(path)
    if not acknowledged <= found <= ALL_BATCHES:
        raise AssertionError(f"acknowledged {acknowledged}, found {found}")
    if found and not space_at(path).verify().is_sound:
        raise AssertionError("verify finds damage where there is none")
    if is_mended:
        for _, step in steps(path):
            step()
        if batches_at(path) != ALL_BATCHES:
            raise AssertionError("doing it all again does not mend it")
