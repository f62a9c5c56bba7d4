"""Rows that do not fit into memory are read from disk and give the same head."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from penult.pipeline.heads import training_matrix as matrices
from penult.pipeline.heads.estimators.lda import ShrunkenDiscriminant
from penult.pipeline.heads.estimators.one_per_tag import PerTagClassifier
from penult.pipeline.heads.estimators.ridge import RidgePath, RidgeRegressor
from penult.pipeline.heads.logistic.path import LogisticPath
from penult.pipeline.heads.numerics.linear import LinearHead
from penult.pipeline.training.options import TrainOptions
from penult.pipeline.training.train import train
from penult.store import SpaceSpec, Store, key_of, open_store
from penult.store.tables.table import Table

ROWS, WIDTH = 3000, 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, ROWS)
    rows = (rng.normal(size=(ROWS, WIDTH)) + rng.normal(size=(3, WIDTH))[labels] * 0.5).astype(np.float32)
    keys = np.frombuffer(b"".join(key_of(str(i).encode()) for i in range(ROWS)), np.uint8).reshape(-1, 16)
    opened = open_store(tmp_path / "store")
    opened.space(SpaceSpec("net", "c" * 64, "penultimate", WIDTH)).add(keys, rows)
    columns = {
        "label": [f"class {y}" for y in labels],
        "split": ["test" if i % 5 == 0 else "train" for i in range(ROWS)],
        "price": rows[:, 0].tolist(),
    }
    opened.catalog.datasets.save("things", Table(keys, tuple(f"{i}.png" for i in range(ROWS)), columns))
    return opened


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "usable_memory_bytes", lambda: 10_000)


@pytest.mark.parametrize("kind", ["logistic", "ridge", "lda", "centroid"])
def test_rows_on_disk_give_the_same_head(store: Store, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = train(store, dataset="things", head=kind)
    monkeypatch.setattr(matrices, "usable_memory_bytes", lambda: 10_000)
    outside = train(store, dataset="things", head=kind, name="outside")
    assert any("read from disk as needed" in note for note in outside.notes)
    assert "disk" not in "".join(inside.notes)
    assert np.allclose(inside.evaluation.probabilities, outside.evaluation.probabilities, atol=1e-4)
    assert {path.name for path in store.path.iterdir()} >= {"spaces"}
    assert not [path for path in store.path.iterdir() if path.name.startswith("tmp")]


def test_a_number_is_learned_from_rows_on_disk(store: Store, no_room: None) -> None:
    trained = train(store, dataset="things", options=TrainOptions(target="price"))
    assert "read from disk" in trained.notes[0]
    assert trained.evaluation.summary()["r2"]["value"] > 0.99


def test_heads_that_copy_their_rows_get_them_in_memory(store: Store, no_room: None) -> None:
    assert "disk" not in "".join(train(store, dataset="things", head="gaussian-nb").notes)


@pytest.mark.parametrize(
    "head", [LogisticPath(C=1.0, n_jobs=1), RidgePath(), ShrunkenDiscriminant()], ids=lambda head: type(head).__name__
)
def test_half_precision_rows_are_never_copied(head: LinearHead, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n, width = 60_000, 256
    y = rng.integers(0, 2, n)
    rows = np.memmap(tmp_path / "rows", np.float16, "w+", shape=(n, width))
    rows[:] = (rng.normal(size=(n, width)) + rng.normal(size=(2, width))[y] * 0.2).astype(np.float16)
    # Beyond the rows, only some blocks and a few square matrices are allocated; a copy would take twice their size.
    assert peak_of(lambda: head.fit(rows, y)) < rows.nbytes


def test_numbers_and_tags_are_learned_without_a_copy(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows: NDArray[np.float16] = rng.normal(size=(60_000, 256)).astype(np.float16)
    tags = (rows[:, :2] + rng.normal(size=(60_000, 2)) > 0).astype(int)
    assert peak_of(lambda: RidgeRegressor().fit(rows, rows[:, 0].astype(float))) < rows.nbytes
    assert peak_of(lambda: PerTagClassifier(LogisticPath(C=1.0, n_jobs=1)).fit(rows, tags)) < rows.nbytes


def peak_of(action: object) -> int:
    assert callable(action)
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_the_machine_is_known() -> None:
    found = matrices.usable_memory_bytes()
    assert found is None or 1 << 28 < found < 1 << 50
