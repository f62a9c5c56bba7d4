"""The current code reads stores of every earlier format version."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from penult.store import Space, open_store
from penult.store.store_folder import MAJOR, MINOR

GOLDEN = sorted((Path(__file__).parent / "golden").glob("store_*.zip"))


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, dict[str, list[float]]]]:
    shutil.unpack_archive(request.param, tmp_path)
    return tmp_path / "store", json.loads(request.param.with_suffix(".json").read_text())


def assert_holds(space: Space, expected: dict[str, list[float]]) -> None:
    rows = space.load()
    assert [key.tobytes().hex() for key in rows.keys] == sorted(expected)
    assert np.array_equal(rows.features, np.array([expected[key] for key in sorted(expected)], dtype=np.float32))


def test_the_current_version_has_a_golden_store() -> None:
    assert f"store_{MAJOR}_{MINOR}.zip" in [path.name for path in GOLDEN]


def test_a_golden_store_opens_reads_verifies_and_accepts_rows(
    golden: tuple[Path, dict[str, dict[str, list[float]]]],
) -> None:
    path, expected = golden
    spaces = open_store(path, create=False).spaces()
    assert {space.spec.id for space in spaces} == set(expected)
    for space in spaces:
        assert_holds(space, expected[space.spec.id])
        assert space.verify().is_sound
        keys = np.frombuffer(bytes.fromhex("".join(sorted(expected[space.spec.id]))), np.uint8).reshape(-1, 16)
        assert len(space.missing(keys)) == 0
        space.add(keys[:3] ^ 255, np.ones((3, space.spec.width)))
        space.compact()
        space.collect(grace_seconds=0)
        assert len(space) == len(keys) + 3
        rows = [expected[space.spec.id][key.tobytes().hex()] for key in keys]
        assert np.array_equal(space.gather(keys), np.array(rows, dtype=np.float32))


def test_h5py_alone_reads_a_golden_shard(golden: tuple[Path, dict[str, dict[str, list[float]]]]) -> None:
    path, expected = golden
    found: dict[str, dict[str, list[float]]] = {}
    for shard in path.glob("spaces/*/shards/*.h5"):
        with h5py.File(shard) as file:
            rows = found.setdefault(str(file.attrs["space_id"]), {})
            for key, row in zip(file["keys"][:], file["features"][:].astype(np.float32), strict=True):
                rows[key.tobytes().hex()] = row.tolist()
    assert found == expected
