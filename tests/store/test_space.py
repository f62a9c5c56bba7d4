from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from penult.errors import RowsRefusedError, UnknownNameError
from penult.store import SpaceSpec, key_array, key_of, open_store

SPEC = SpaceSpec("lite0", "ab" * 32, "penultimate", 7)


def some(n: int, seed: int = 0, width: int = 7) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 16), dtype=np.uint8), rng.standard_normal((n, width)).astype(np.float16)


def test_rows_come_back_under_their_keys_in_the_order_asked(tmp_path: Path) -> None:
    space = open_store(tmp_path / "s").space(SPEC)
    keys, rows = some(1000)
    space.add(keys[:300], rows[:300])
    space.add(keys[200:], rows[200:])
    assert len(space) == 1000
    again = open_store(tmp_path / "s", create=False).space(SPEC)
    order = np.random.default_rng(1).permutation(1000)
    assert (again.gather(keys[order]) == rows[order]).all()
    everything = again.load()
    assert everything.features.dtype == np.float32
    place = {key.tobytes(): i for i, key in enumerate(keys)}
    assert [k.tobytes() for k in everything.keys] == sorted(place)
    assert (everything.features == rows[[place[k.tobytes()] for k in everything.keys]]).all()


def test_missing_names_the_absent_keys_once_in_the_order_asked(tmp_path: Path) -> None:
    space = open_store(tmp_path).space(SPEC)
    keys, rows = some(3)
    space.add(keys[:1], rows[:1])
    a, b = key_of(b"a"), bytes(15) + b"\0"
    asked = key_array([b, a, keys[0].tobytes(), b])
    assert [key.tobytes() for key in space.missing(asked)] == [b, a]
    assert keys[0].tobytes() in space
    assert a not in space
    with pytest.raises(UnknownNameError, match="2 of 3"):
        space.gather([a, b, keys[0].tobytes()])


def test_rows_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    space = open_store(tmp_path).space(SPEC)
    keys, rows = some(3)
    for bad in (np.nan, np.inf, -np.inf, 1e6):
        wrong = rows.astype(np.float32)
        wrong[1, 2] = bad
        with pytest.raises(RowsRefusedError):
            space.add(keys, wrong)
    assert len(space) == 0
