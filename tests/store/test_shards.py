"""The shard format: reads by other programs, the bytes that are written, and hostile files."""

import json
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from xxhash import xxh3_64_intdigest, xxh3_128_hexdigest

from penult.errors import StoreDamagedError, StoreError
from penult.store import Space
from penult.store.shards import container
from penult.store.shards.checksums import row_sums
from penult.store.shards.shard import NewShard, ShardName
from tests.store.rig.samples import SPEC, add, keys_of, rows_of


def shard_of(space: Space) -> Path:
    return next((space.path / "shards").iterdir())


def test_h5py_reads_a_shard_in_one_line(space: Space) -> None:
    add(space, 0)
    with h5py.File(shard_of(space)) as file:
        features, keys = file["features"][:], file["keys"][:]
        assert np.array_equal(features, rows_of(keys))
        assert features.dtype == np.dtype("<f2")
        assert {name: file.attrs[name] for name in ("format", "version", "space_id", "rows", "width")} == {
            "format": "penult-shard",
            "version": "1.0",
            "space_id": SPEC.id,
            "rows": 4,
            "width": 3,
        }
        assert json.loads(file.attrs["space"]) == {"backbone": "lite0", **SPEC.identity}


def test_a_shard_is_plain_contiguous_aligned_and_sorted(space: Space) -> None:
    add(space, 0)
    with h5py.File(shard_of(space)) as file:
        for name in ("features", "keys", "row_xxh3", "block_xxh3"):
            dataset = file[name]
            assert dataset.chunks is None
            assert dataset.compression is None
            assert dataset.id.get_offset() % 4096 == 0
        keys = [key.tobytes() for key in file["keys"]]
        assert keys == sorted(keys)
        assert file.userblock_size == 4096
        sums = file["row_xxh3"][:]
        for key, row, found in zip(file["keys"][:], file["features"][:], sums, strict=True):
            high, low = (int.from_bytes(key[i : i + 8].tobytes(), "big") for i in (0, 8))
            assert xxh3_64_intdigest(row.tobytes(), high ^ low) == found


def test_the_name_of_a_shard_contains_its_rows_and_its_digest(space: Space) -> None:
    add(space, 0)
    name = ShardName.known(shard_of(space).name)
    assert name.rows == 4
    assert name.digest == xxh3_128_hexdigest(shard_of(space).read_bytes())
    assert ShardName.parse(str(name)) == name
    assert ShardName.parse("../" + str(name)) is None


def test_the_same_rows_make_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed:
        hex = "0" * 32

    monkeypatch.setattr("penult.store.shards.shard.uuid4", Fixed)
    keys = keys_of(0, 100)
    keys = keys[np.lexsort(keys.T[::-1])]
    rows = rows_of(keys).astype(np.float16)
    first, second = (NewShard(SPEC, keys, lambda first, end: rows[first:end]) for _ in range(2))
    assert [bytes(data) for _, data in first.parts()] == [bytes(data) for _, data in second.parts()]
    assert first.name == second.name


def test_a_row_under_another_key_has_another_checksum() -> None:
    keys = keys_of(0)
    rows = np.zeros((4, 3), dtype=np.float16)
    assert len(set(row_sums(keys, rows).tolist())) == 4


def rewritten(path: Path, change: dict[str, object]) -> None:
    """Replaces the block of a shard by a changed one with a valid checksum."""
    content = bytearray(path.read_bytes())
    length = int(content[10:18])
    text = bytes(content[container.OPENING_BYTES : container.OPENING_BYTES + length])
    changed = json.dumps({**json.loads(text), **change}).encode()
    opening = container.OPENING % (1, len(changed), xxh3_128_hexdigest(changed).encode())
    content[:4096] = (opening + changed).ljust(4096, b"\0")
    path.write_bytes(content)


HUGE = [4096, "<f2", [1 << 60, 1 << 60]]


@pytest.mark.parametrize(
    "change",
    [
        {"sections": {}},
        {"sections": {"features": HUGE}},
        {"sections": {"features": [0, "<f2", [4, 3]], "keys": HUGE}},
        {"sections": {"features": [-4096, "<f2", [4, 3]]}},
        {"sections": {"features": [0, "|O", [4, 3]]}},
        {"sections": {"features": [0, "<f2", [-4, -3]]}},
        {"sections": {"features": [0, "<f2", []]}},
        {"sections": 7},
        {"size": 1 << 60},
        {"rows": 1 << 60},
        {"rows": "many"},
        {"uuid": "../../etc"},
        {"kind": "index"},
        {"block_rows": 0},
        {"space_id": "0" * 16},
        {"replaces": ["../../../../etc/passwd"]},
        {"keys_xxh3": None},
        {"version": None},
    ],
)
def test_a_hostile_block_raises_before_allocation(space: Space, change: dict[str, object]) -> None:
    add(space, 0)
    rewritten(shard_of(space), change)
    with pytest.raises(StoreError):
        space.load()
    with pytest.raises(StoreError):
        space.stats()


def test_a_block_that_declares_more_than_its_file_raises(space: Space) -> None:
    add(space, 0)
    content = bytearray(shard_of(space).read_bytes())
    content[10:18] = b"99999999"
    shard_of(space).write_bytes(content)
    with pytest.raises(StoreDamagedError):
        space.load()


def test_hdf5_links_are_not_followed(space: Space, tmp_path: Path) -> None:
    add(space, 0)
    path = shard_of(space)
    before = path.read_bytes()
    with h5py.File(path, "r+") as file:
        del file["features"]
        file["features"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "secret")
    path.write_bytes(path.read_bytes().ljust(len(before), b"\0")[: len(before)])
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["secret"] = np.ones((4, 3), dtype=np.float16)
    try:
        rows = space.load()
    except StoreDamagedError:
        return  # HDF5 wrote the link over the features
    assert np.array_equal(rows.features, rows_of(rows.keys))


def test_a_pickle_in_place_of_any_file_never_runs(space: Space, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'exploded'}",)

    add(space, 0)
    space.checkpoint()
    for file in [path for path in space.path.rglob("*") if path.is_file()]:
        file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(StoreError):
        space.load()
    assert not (tmp_path / "exploded").exists()
