"""Hostile input to training ends in a clear error or in a valid head, and nothing is lost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from penult.errors import HeadError, InputError, StoreWriteError, UnknownNameError
from penult.pipeline.heads.head import Head
from penult.pipeline.training.options import TrainOptions
from penult.pipeline.training.train import train
from penult.store import SpaceSpec, Store, key_of, open_store
from penult.store.tables.table import Table

N = 80


def kept(folder: Path, features: NDArray[np.floating], **columns: Any) -> Store:
    n = len(features)
    keys = np.frombuffer(b"".join(key_of(f"{i}".encode()) for i in range(n)), np.uint8).reshape(n, 16)
    store = open_store(folder / "store")
    store.space(SpaceSpec("made", "a" * 64, "penultimate", features.shape[1])).add(keys, features.astype(np.float32))
    columns = {"split": ["test" if i % 4 == 0 else "train" for i in range(n)], **columns}
    store.catalog.datasets.save("things", Table(keys, tuple(f"{i}.png" for i in range(n)), columns))
    return store


@pytest.fixture
def rows() -> tuple[NDArray[np.float64], list[str]]:
    features = np.random.default_rng(0).normal(size=(N, 12))
    features[:, 0] += np.arange(N) % 2 * 3
    return features, [("ants", "bees")[i % 2] for i in range(N)]


Rows = tuple[NDArray[np.float64], list[str]]


def test_spaces_around_labels_are_removed(tmp_path: Path, rows: Rows) -> None:
    features, labels = rows
    labels[2], labels[6], labels[9] = "ants ", "\tants", "  "
    trained = train(kept(tmp_path, features, label=labels), dataset="things")
    assert trained.head.card.classes == ("ants", "bees")
    assert "left out because of no label: 1 image" in trained.notes
    assert trained.head.card.n_train == 59


@pytest.mark.parametrize("head", ["logistic", "ridge", "lda", "centroid", "gaussian-nb", "svc", "knn"])
def test_constant_columns_are_accepted_and_identical_rows_raise(tmp_path: Path, rows: Rows, head: str) -> None:
    features, labels = rows
    features[:, 3:] = 7
    trained = train(kept(tmp_path / "some", features, label=labels), dataset="things", head=head)
    assert np.isfinite(trained.evaluation.probabilities).all()
    store = kept(tmp_path / "all", np.ones((N, 4)), label=labels)
    with pytest.raises(HeadError, match="all 60 training images have the same features"):
        train(store, dataset="things", head=head)
    assert store.catalog.heads.all() == {}


@pytest.mark.parametrize("name", ["a/b", "a\0b", "a\nb", "a" * 300, ".a"])
def test_names_that_no_folder_can_have_raise_before_any_work(tmp_path: Path, rows: Rows, name: str) -> None:
    with pytest.raises(InputError, match="a head cannot be named"):
        train(kept(tmp_path, rows[0], label=rows[1]), dataset="things", name=name)


def test_a_head_that_cannot_be_written_raises_and_keeps_the_old_one(tmp_path: Path, rows: Rows) -> None:
    store = kept(tmp_path, rows[0], label=rows[1])
    train(store, dataset="things")
    (store.heads_path / "taken").write_text("something else")
    with pytest.raises(StoreWriteError, match="the head 'taken' cannot be written"):
        train(store, dataset="things", name="taken")
    assert (store.heads_path / "taken").read_text() == "something else"
    assert set(store.catalog.heads.all()) == {"things-logistic"}
    assert Head.load(store.heads_path / "things-logistic").card.n_train == 60


@pytest.mark.parametrize(
    ("head", "params"),
    [("logistic", {"C": np.inf}), ("logistic", {"C": np.nan}), ("knn", {"n_neighbors": 1000}), ("svc", {"C": -1.0})],
)
def test_invalid_parameters_raise(tmp_path: Path, rows: Rows, head: str, params: dict[str, float]) -> None:
    store = kept(tmp_path, rows[0], label=rows[1])
    with pytest.raises(HeadError):
        train(store, dataset="things", head=head, options=TrainOptions(params=params))
    assert store.catalog.heads.all() == {}


def test_the_error_for_a_missing_start_lists_the_heads(tmp_path: Path, rows: Rows) -> None:
    store = kept(tmp_path, rows[0], label=rows[1])
    train(store, dataset="things")
    with pytest.raises(UnknownNameError, match="things-logistic"):
        train(store, dataset="things", name="two", options=TrainOptions(start_from="things-logistics"))


@pytest.mark.parametrize(
    ("rows_with", "value", "said"),
    [
        ([5], np.inf, "'price' contains infinite numbers"),
        ([5], 1e200, "'price' has the value 1e"),
        (range(0, N, 4), 3.0, "'price' is 3 on all test images"),
        (range(N), 3.0, "'price' is 3 on all training images"),
    ],
)
def test_numbers_that_no_head_can_learn_raise(
    tmp_path: Path, rows: Rows, rows_with: Sequence[int], value: float, said: str
) -> None:
    prices = np.arange(N, dtype=np.float64)
    prices[list(rows_with)] = value
    with pytest.raises(InputError, match=said):
        train(kept(tmp_path, rows[0], price=prices), dataset="things", options=TrainOptions(target="price"))
