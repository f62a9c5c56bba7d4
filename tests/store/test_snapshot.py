"""Interleavings of a reader or writer with another process, one at a time."""

from pathlib import Path

import numpy as np
import pytest

from penult.errors import StoreDamagedError
from penult.store import Space, open_store
from penult.store.spaces.manifests import Manifest
from penult.store.spaces.space_folder import SpaceFolder
from tests.store.rig.samples import SPEC, add, batches_in


def another(space: Space) -> Space:
    """Opens the same space like another process."""
    return open_store(space.path.parents[1]).space(SPEC)


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_a_listing_without_the_old_and_the_new_shard_is_repeated(
    space: Space, is_checkpointed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(space, 0)
    add(space, 1)
    if is_checkpointed:
        space.checkpoint()
    listing, calls = SpaceFolder.listed_shards, []

    def racing(folder: SpaceFolder) -> frozenset[str]:
        calls.append(folder)
        if len(calls) > 1:
            return listing(folder)
        before = listing(folder)
        another(space).compact()
        another(space).collect(grace_seconds=0)
        after = listing(folder)
        assert not before & after
        return before & after

    monkeypatch.setattr(SpaceFolder, "listed_shards", racing)
    assert batches_in(space) == {0, 1}


def test_a_listing_older_than_the_manifest_is_repeated(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    add(space, 0)
    add(space, 1)
    listing, calls = SpaceFolder.listed_shards, []

    def late(folder: SpaceFolder) -> frozenset[str]:
        calls.append(folder)
        found = listing(folder)
        if len(calls) == 1:
            another(space).compact()
            another(space).collect(grace_seconds=0)
        return found

    monkeypatch.setattr(SpaceFolder, "listed_shards", late)
    assert batches_in(space) == {0, 1}


def test_a_second_manifest_with_the_same_number_is_not_written(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    add(space, 0)
    putting = SpaceFolder.put_manifest
    losers: list[Manifest] = []

    def racing(folder: SpaceFolder, manifest: Manifest) -> bool:
        if not losers:
            losers.append(manifest)
            add(another(space), 1)
            another(space).compact()
            another(space).collect(grace_seconds=0)
        return putting(folder, manifest)

    monkeypatch.setattr(SpaceFolder, "put_manifest", racing)
    space.checkpoint()
    assert losers[0].number == 1
    assert batches_in(space) == batches_in(another(space)) == {0, 1}


def test_one_of_two_concurrent_compactions_comes_into_use(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    add(space, 0)
    add(space, 1)
    listing, calls = SpaceFolder.write, []

    def racing(folder: SpaceFolder, suffix: str, parts: object) -> Path:
        calls.append(suffix)
        if len(calls) == 1:
            another(space).compact()
        return listing(folder, suffix, parts)  # type: ignore[arg-type] # handed on as it came

    monkeypatch.setattr(SpaceFolder, "write", racing)
    space.compact()
    stats = space.stats()
    assert (stats.keys, stats.rows, stats.shards) == (8, 8, 1)
    assert batches_in(space) == {0, 1}
    assert not list((space.path / "tmp").iterdir())


def test_a_merged_shard_without_a_manifest_comes_into_use_at_the_next_checkpoint(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(space, 0)
    add(space, 1)

    class DiedError(Exception):
        pass

    def die(folder: SpaceFolder) -> None:
        raise DiedError

    with monkeypatch.context() as patch:
        patch.setattr("penult.store.spaces.compaction.checkpoint", die)
        with pytest.raises(DiedError):
            space.compact()
    assert len(list((space.path / "shards").iterdir())) == 3
    assert space.stats().shards == 2
    assert batches_in(space) == {0, 1}
    space.checkpoint()
    assert space.stats().shards == 1
    assert batches_in(space) == {0, 1}


def test_a_merged_shard_counts_without_any_manifest(space: Space) -> None:
    add(space, 0)
    add(space, 1)
    space.compact()
    space.collect(grace_seconds=0)
    for path in (space.path / "manifests").iterdir():
        path.unlink()
    assert batches_in(another(space)) == {0, 1}
    another(space).checkpoint()
    assert batches_in(another(space)) == {0, 1}


def test_a_reader_whose_shards_are_collected_reads_their_successor(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch in range(3):
        add(space, batch)
    assert len(space) == 12
    opening, calls = SpaceFolder.open_shard, []

    def racing(folder: SpaceFolder, name: str) -> object:
        calls.append(name)
        if len(calls) == 2:
            another(space).compact()
            another(space).collect(grace_seconds=0)
        return opening(folder, name)

    monkeypatch.setattr(SpaceFolder, "open_shard", racing)
    rows = space.load()
    assert len(rows) == 12
    assert np.unique(rows.keys, axis=0).shape == (12, 16)


def test_a_missing_shard_of_the_manifest_raises(space: Space) -> None:
    add(space, 0)
    add(space, 1)
    space.checkpoint()
    next((space.path / "shards").iterdir()).unlink()
    for read in (space.load, space.__len__, space.stats, lambda: space.missing([bytes(16)])):
        with pytest.raises(StoreDamagedError, match="is missing"):
            read()


def test_a_space_needs_only_its_shards(space: Space) -> None:
    for batch in range(3):
        add(space, batch)
    space.checkpoint()
    for folder in ("manifests", "index", "tmp", "trash", "quarantine"):
        for path in (space.path / folder).iterdir():
            path.unlink()
        (space.path / folder).rmdir()
    again = another(space)
    assert batches_in(again) == {0, 1, 2}
    add(again, 3)
    again.compact()
    again.collect(grace_seconds=0)
    assert batches_in(again) == {0, 1, 2, 3}
