"""A flipped byte, a lost file, a torn page: harmless or reported, and never a wrong row."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest

from penult.errors import StoreDamagedError, StoreFormatError
from penult.store import Space
from penult.store.files.local import LocalPath
from penult.store.shards.container import open_container
from tests.store.rig.harm import files_of, flips, harmed, is_noticed, page_harms, store_with_everything, the_space
from tests.store.rig.samples import add, batches_in, keys_of, rows_of


def shards_of(space: Space) -> list[Path]:
    return sorted((space.path / "shards").iterdir())


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 0x10
    file.write_bytes(content)


def flip_in(file: Path, section: str, place: int) -> None:
    with open_container(LocalPath(file)) as container:
        offset = container.layout.sections[section].offset
    flip(file, offset + place)


def flip_every_file(path: Path, batches: set[int], count: int | None) -> int:
    chance, noticed = Random(0), 0
    for file in files_of(path):
        for content in flips(file.read_bytes(), chance, count):
            with harmed(file, content):
                noticed += is_noticed(path, batches)
    return noticed


def test_a_flipped_bit_is_harmless_or_reported_and_never_a_wrong_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = store_with_everything(tmp_path / "store", monkeypatch)
    assert flip_every_file(tmp_path / "store", batches, count=40) > 100


@pytest.mark.slow
def test_a_flip_of_any_byte_is_harmless_or_reported_and_never_a_wrong_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = store_with_everything(tmp_path / "store", monkeypatch)
    assert flip_every_file(tmp_path / "store", batches, count=None) > 1000


def test_torn_zeroed_foreign_and_swapped_pages_are_harmless_or_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, chance, noticed = tmp_path / "store", Random(0), 0
    batches = store_with_everything(path, monkeypatch)
    shards = shards_of(the_space(path))
    for file in files_of(path):
        other = next(shard for shard in shards if shard != file).read_bytes()
        for content in page_harms(file.read_bytes(), other, chance):
            with harmed(file, content):
                noticed += is_noticed(path, batches)
    assert noticed > 20


def test_a_lost_or_swapped_file_is_harmless_or_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store"
    batches = store_with_everything(path, monkeypatch)
    the_space(path).checkpoint()
    for file in files_of(path):
        with harmed(file, None):
            is_needed = file.parent.name == "shards" or file.name in {"store.json", "space.json"}
            assert is_noticed(path, batches) == is_needed
        for other in files_of(path):
            with harmed(file, other.read_bytes()):
                is_noticed(path, batches)


def test_verify_finds_every_flipped_byte_of_shards_and_manifests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, chance = tmp_path / "store", Random(1)
    store_with_everything(path, monkeypatch)
    space = the_space(path)
    assert space.verify().is_sound
    for file in files_of(space.path):
        if file.parent.name in {"shards", "manifests"}:
            for content in flips(file.read_bytes(), chance, 8):
                with harmed(file, content):
                    assert [str(damage.path) for damage in space.verify().damage] == [str(file)]


def test_verify_lists_the_lost_keys_and_repair_with_add_restores_them(space: Space) -> None:
    for batch in range(3):
        add(space, batch)
    space.checkpoint()
    victim = shards_of(space)[1]
    flip_in(victim, "features", 7)
    with pytest.raises(StoreDamagedError, match=victim.name):
        space.load()
    report = space.verify()
    assert [str(damage.path) for damage in report.damage] == [str(victim)]
    lost = {key.tobytes() for key in report.keys}
    assert len(lost) == 1

    repaired = space.verify(repair=True)
    assert {key.tobytes() for key in repaired.keys} == lost
    assert (space.path / "quarantine" / victim.name).exists()
    assert space.verify().is_sound
    everything = np.concatenate([keys_of(batch) for batch in range(3)])
    absent = space.missing(everything)
    assert {key.tobytes() for key in absent} == lost
    space.add(absent, rows_of(absent))
    assert batches_in(space) == {0, 1, 2}


def test_the_index_gives_the_keys_of_an_unreadable_shard(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penult.store.spaces.lookup.WORTH_ROWS", 1)
    add(space, 0)
    add(space, 1)
    space.checkpoint()
    gone, unreadable = shards_of(space)
    gone.unlink()
    flip_in(unreadable, "keys", 3)
    report = space.verify()
    expected = {key.tobytes() for batch in (0, 1) for key in keys_of(batch)}
    assert {key.tobytes() for key in report.keys} == expected
    assert sum(damage.unknown_rows for damage in report.damage) == 0
    space.verify(repair=True)
    assert len(space) == 0
    add(space, 0)
    add(space, 1)
    assert batches_in(space) == {0, 1}


def test_without_an_index_the_lost_rows_are_counted(space: Space) -> None:
    add(space, 0)
    add(space, 1)
    space.checkpoint()
    shards_of(space)[0].unlink()
    damage = space.verify().damage
    assert [(len(entry.keys), entry.unknown_rows) for entry in damage] == [(0, 4)]
    space.verify(repair=True)
    assert len(batches_in(space)) == 1


@pytest.mark.parametrize("is_collected", [False, True])
def test_repair_takes_rows_of_a_merged_shard_from_the_replaced_shards(space: Space, is_collected: bool) -> None:
    add(space, 0)
    add(space, 1)
    space.compact()
    if is_collected:
        space.collect()
    merged = next(file for file in shards_of(space) if "merged" in file.name)
    merged.write_bytes(b"nothing")
    with pytest.raises(StoreDamagedError):
        space.load()
    assert not len(space.verify(repair=True).keys)
    assert batches_in(space) == {0, 1}
    assert space.verify().is_sound


def test_rows_that_another_shard_also_contains_are_not_lost(space: Space) -> None:
    add(space, 0)
    add(space, 0)
    flip_in(shards_of(space)[0], "features", 0)
    report = space.verify()
    assert not report.is_sound
    assert not len(report.keys)


def test_a_shard_of_a_newer_version_is_not_damage(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penult.store.shards.shard.MAJOR", 2)
    add(space, 0)
    monkeypatch.undo()
    for act in (space.load, lambda: space.verify(repair=True)):
        with pytest.raises(StoreFormatError, match="version 2"):
            act()
    assert len(shards_of(space)) == 1


def test_a_damaged_manifest_is_replaced_by_the_next(space: Space) -> None:
    for batch in range(3):
        add(space, batch)
        space.checkpoint()
    newest = max((space.path / "manifests").iterdir())
    flip(newest, 60)
    assert batches_in(space) == {0, 1, 2}
    assert [str(damage.path) for damage in space.verify(repair=True).damage] == [str(newest)]
    assert space.verify().is_sound
    assert json.loads(max((space.path / "manifests").iterdir()).read_bytes().split(b"\n", 1)[1])["number"] == 4


def test_a_reader_with_a_cached_lookup_verifies_each_row(space: Space) -> None:
    add(space, 0)
    assert batches_in(space) == {0}
    flip_in(shards_of(space)[0], "features", 0)
    with pytest.raises(StoreDamagedError):
        space.load()
    assert len(space.load(verify="none")) == 4
