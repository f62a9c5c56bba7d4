"""Damages the files of a store, one kind of damage at a time, and checks the result."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from penult.errors import StoreError
from penult.store import Space, open_store
from tests.store.rig.samples import SPEC, add, batches_in

PAGE = 4096


def store_with_everything(path: Path, patch: pytest.MonkeyPatch) -> set[int]:
    """Makes a store with merged and plain shards, manifests and an index; returns its batches."""
    patch.setattr("penult.store.spaces.lookup.WORTH_ROWS", 1)
    space = open_store(path).space(SPEC)
    add(space, 0)
    add(space, 1)
    space.compact()
    space.collect(grace_seconds=0)
    add(space, 2)
    space.checkpoint()
    add(space, 3)
    assert {file.suffix for file in files_of(path)} == {".h5", ".json"}
    return {0, 1, 2, 3}


def files_of(path: Path) -> list[Path]:
    """Lists the files of a store."""
    return sorted(file for file in path.rglob("*") if file.is_file())


@contextmanager
def harmed(file: Path, content: bytes | None) -> Iterator[None]:
    """Changes or removes a file temporarily."""
    before = file.read_bytes()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


def is_noticed(path: Path, batches: set[int]) -> bool:
    """Returns whether a store reports the damage; fails if the store silently returns wrong rows."""
    try:
        store = open_store(path, create=False)
        found = [batches_in(space) for space in store.spaces()]
    except StoreError:
        return True
    if found != [batches]:
        raise AssertionError(f"the store contains {found} and reports no damage")
    return False


def flips(content: bytes, chance: Random, count: int | None) -> Iterator[bytes]:
    """Yields the content with one bit flipped, at all bytes that are not zero or ``count`` of them, and a few zeros."""
    filled = [place for place, byte in enumerate(content) if byte]
    zeros = [place for place, byte in enumerate(content) if not byte]
    if count is not None:
        filled = chance.sample(filled, min(count, len(filled)))
    for place in filled + chance.sample(zeros, min(len(filled) // 8, len(zeros))):
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        yield bytes(changed)


def page_harms(content: bytes, other: bytes, chance: Random) -> Iterator[bytes]:
    """Yields the content cut short, with zeroed pages, with pages of another file, and with pages exchanged."""
    pages = range(0, len(content), PAGE)
    yield b""
    for start in pages:
        yield content[:start]
        yield content[: start + chance.randrange(PAGE)][: len(content) - 1]
        yield content[:start] + bytes(len(content[start : start + PAGE])) + content[start + PAGE :]
        yield content[:start] + other[start : start + PAGE] + content[start + PAGE :]
        swap = chance.choice(pages)
        changed = bytearray(content)
        changed[start : start + PAGE], changed[swap : swap + PAGE] = (
            content[swap : swap + PAGE],
            content[start : start + PAGE],
        )
        yield bytes(changed)


def the_space(path: Path) -> Space:
    """Opens the only space of a store."""
    return open_store(path, create=False).spaces()[0]
