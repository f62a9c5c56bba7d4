"""The cache of bases in the store, and training that starts from another head."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from penult.errors import HeadError, InputError, SpaceMismatchError, UnknownNameError
from penult.pipeline.heads import basis_cache
from penult.pipeline.heads.basis_cache import BasisCache
from penult.pipeline.heads.estimators.ridge import RidgePath
from penult.pipeline.heads.logistic.path import LogisticPath
from penult.pipeline.heads.numerics.basis import Basis, moments_of
from penult.pipeline.training.options import TrainOptions
from penult.pipeline.training.train import train
from penult.store import SpaceSpec, Store, key_of, open_store
from penult.store.tables.table import Table

WIDTH = 24
Keys = NDArray[np.uint8]
Rows = NDArray[np.float32]
Data = tuple[Keys, Rows, NDArray[np.intp]]


@pytest.fixture
def rows() -> Data:
    rng = np.random.default_rng(0)
    keys = np.frombuffer(b"".join(sorted(key_of(str(i).encode()) for i in range(700))), np.uint8).reshape(-1, 16)
    labels = rng.integers(0, 3, 700)
    mixed = rng.normal(size=(WIDTH, WIDTH))
    features = rng.normal(size=(700, WIDTH)) @ mixed + rng.normal(size=(3, WIDTH))[labels] * 1.5
    return keys, features.astype(np.float16).astype(np.float32), labels


def cache_of(tmp_path: Path) -> BasisCache:
    return BasisCache(tmp_path, ["a" * 16])


def no_rows(keys: Keys) -> Rows:
    raise AssertionError("no row should be read")


def refuse_sums(monkeypatch: pytest.MonkeyPatch, *, beyond: int) -> None:
    def counted(features: Rows) -> object:
        assert len(features) <= beyond
        return moments_of(features)

    monkeypatch.setattr(basis_cache, "moments_of", counted)


def test_a_cached_basis_is_read_and_not_computed_again(
    tmp_path: Path, rows: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, features, _ = rows
    made = cache_of(tmp_path).basis(keys, features, no_rows, exact=True)
    refuse_sums(monkeypatch, beyond=0)
    read = cache_of(tmp_path).basis(keys, features, no_rows, exact=True)
    assert np.array_equal(made.axes, read.axes)
    assert np.array_equal(made.spread, read.spread)
    plain = Basis.of(features)
    assert np.array_equal(plain.axes, read.axes)


def test_added_and_removed_rows_update_the_basis(tmp_path: Path, rows: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, features, _ = rows
    cache_of(tmp_path).basis(keys[:600], features[:600], no_rows, exact=False)
    refuse_sums(monkeypatch, beyond=40)

    def gather(wanted: Keys) -> Rows:
        assert np.array_equal(wanted, keys[:30])
        return features[:30]

    now = slice(30, 640)
    nearby = cache_of(tmp_path).basis(keys[now], features[now], gather, exact=False)
    fresh = Basis.of(features[now])
    assert not nearby.is_exact
    assert np.allclose(nearby.mean, fresh.mean, rtol=1e-10, atol=1e-12)
    assert np.allclose(nearby.scale, fresh.scale, rtol=1e-10)
    assert nearby.spread.sum() == pytest.approx(fresh.spread.sum())
    assert len(list(cache_of(tmp_path).folder.iterdir())) == 1
    exact = cache_of(tmp_path).basis(keys[now], features[now], gather, exact=True)
    assert exact.is_exact
    assert np.allclose(exact.spread, fresh.spread, rtol=1e-8)


def test_a_head_on_an_updated_basis_equals_one_on_a_new_basis(tmp_path: Path, rows: Data) -> None:
    keys, features, labels = rows
    cache_of(tmp_path).basis(keys[:600], features[:600], no_rows, exact=False)
    nearby = cache_of(tmp_path).basis(keys, features, no_rows, exact=False)
    exact = cache_of(tmp_path).basis(keys, features, no_rows, exact=True)
    fresh, updated = LogisticPath(C=0.1).fit(features, labels), LogisticPath(C=0.1).fit(features, labels, basis=nearby)
    assert not nearby.is_exact
    assert updated.objective_ == pytest.approx(fresh.objective_, rel=1e-5)
    assert np.allclose(updated.predict_proba(features), fresh.predict_proba(features), atol=3e-3)
    ridges = [RidgePath().fit(features, labels, basis=basis) for basis in (exact, None)]
    assert np.allclose(ridges[0].coef_, ridges[1].coef_, atol=1e-6)


def test_too_many_changes_compute_a_new_basis(tmp_path: Path, rows: Data) -> None:
    keys, features, _ = rows
    cache_of(tmp_path).basis(keys[:300], features[:300], no_rows, exact=False)
    assert cache_of(tmp_path).basis(keys, features, no_rows, exact=False).is_exact


@pytest.mark.parametrize("harm", ["flip", "cut", "foreign"])
def test_a_damaged_file_is_replaced(tmp_path: Path, rows: Data, harm: str) -> None:
    keys, features, _ = rows
    made = cache_of(tmp_path).basis(keys, features, no_rows, exact=True)
    (path,) = cache_of(tmp_path).folder.glob("*.h5")
    if harm == "flip":
        with h5py.File(path, "r+") as file:
            file["mean"][3] += 1
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        path.write_text("something else")
    assert np.array_equal(cache_of(tmp_path).basis(keys, features, no_rows, exact=True).mean, made.mean)
    with h5py.File(path) as file:
        assert np.array_equal(file["mean"][()], made.mean)


def test_other_spaces_have_another_folder(tmp_path: Path) -> None:
    assert BasisCache(tmp_path, ["a", "b"]).folder != BasisCache(tmp_path, ["b", "a"]).folder


def test_the_number_of_files_is_limited(tmp_path: Path, rows: Data) -> None:
    keys, features, _ = rows
    for n in range(400, 410):
        cache_of(tmp_path).basis(keys[:n], features[:n], no_rows, exact=True)
    assert len(list(cache_of(tmp_path).folder.iterdir())) == basis_cache.MOST_FILES


@pytest.fixture
def store(tmp_path: Path, rows: Data) -> Store:
    keys, features, labels = rows
    opened = open_store(tmp_path / "store")
    opened.space(SpaceSpec("net", "c" * 64, "penultimate", WIDTH)).add(keys, features)
    paths = tuple(f"{i}.png" for i in range(700))
    splits = np.where(np.arange(700) % 5 == 0, "test", "train").tolist()
    table = Table(keys, paths, {"label": np.array([f"class {y}" for y in labels]), "split": np.array(splits)})
    opened.catalog.datasets.save("things", table)
    return opened


def test_training_caches_the_basis_in_the_store(store: Store) -> None:
    first = train(store, dataset="things")
    assert len(list((store.path / "statistics").glob("*/*.h5"))) == 1
    for head in ("ridge", "lda", "logistic"):
        train(store, dataset="things", head=head)
    assert len(list((store.path / "statistics").glob("*/*.h5"))) == 1
    again = train(store, dataset="things")
    assert np.array_equal(first.head.estimator.coef_, again.head.estimator.coef_)


def test_training_works_if_the_cache_cannot_be_written(store: Store) -> None:
    (store.path / "statistics").write_text("in the way")
    assert train(store, dataset="things").evaluation.accuracy.value > 0.5


def test_a_warm_start_reaches_the_same_optimum_in_fewer_passes(store: Store) -> None:
    first = train(store, dataset="things")
    dataset = store.catalog.datasets.load("things")
    labels = np.array(dataset.labels)
    labels[5:40:5] = "class 0"
    store.catalog.datasets.save("things", dataset.with_columns(label=labels.tolist()))
    C = first.head.estimator.C_
    near = train(store, dataset="things", name="near", options=TrainOptions(start_from="things-logistic"))
    alone = train(store, dataset="things", name="alone", options=TrainOptions(params={"C": C}))
    assert near.head.estimator.C_ == C
    assert near.head.estimator.objective_ <= alone.head.estimator.objective_ * (1 + 1e-4)
    assert near.head.estimator.n_iter_ < alone.head.estimator.n_iter_


def test_starting_from_an_unsuitable_head_raises_an_error(store: Store) -> None:
    train(store, dataset="things", head="lda")
    train(store, dataset="things")
    with pytest.raises(InputError, match="two logistic heads"):
        train(store, dataset="things", options=TrainOptions(start_from="things-lda"))
    dataset = store.catalog.datasets.load("things")
    labels = ["class 9" if label == "class 1" else label for label in np.array(dataset.labels)]
    store.catalog.datasets.save("things", dataset.with_columns(label=labels))
    with pytest.raises(InputError, match="the head 'things-logistic' has the classes class 0, class 1, class 2"):
        train(store, dataset="things", options=TrainOptions(start_from="things-logistic"))
    store.space(SpaceSpec("other", "d" * 64, "penultimate", 5)).add(dataset.keys, np.ones((700, 5), np.float32))
    with pytest.raises(SpaceMismatchError):
        train(store, dataset="things", backbone="other", options=TrainOptions(start_from="things-logistic"))


def test_a_start_of_another_shape_raises_an_error(rows: Data) -> None:
    _, features, labels = rows
    known = LogisticPath(C=1.0).fit(features[:, :5], labels)
    with pytest.raises(HeadError, match="3 classes and 5 features"):
        LogisticPath(C=1.0).fit(features, labels, start=known)


def test_an_unknown_parameter_raises_an_error(store: Store) -> None:
    with pytest.raises(UnknownNameError, match="parameter of this head"):
        train(store, dataset="things", options=TrainOptions(params={"depth": 3}))
