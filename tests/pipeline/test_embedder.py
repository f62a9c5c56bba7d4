"""The embedder as a step of scikit-learn pipelines, which extracts each image once."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import penult
from penult.errors import ImageError, InputError, UnknownNameError
from penult.exporters import Backbone
from penult.pipeline import embedder as module
from penult.pipeline.images.image_file import ImageFile
from penult.sklearn import Embedder


@pytest.fixture
def small(small_backbone: Backbone, tmp_path: Path) -> str:
    path = tmp_path / "small.onnx"
    small_backbone.save(path)
    return str(path)


@pytest.fixture
def other(make_backbone: Callable[[int], Backbone], tmp_path: Path) -> str:
    path = tmp_path / "other.onnx"
    make_backbone(1).save(path)
    return str(path)


def files_of(collection: Path) -> tuple[list[str], list[str]]:
    paths = sorted(collection.rglob("*.png"))
    return [str(path) for path in paths], [path.parent.name for path in paths]


def test_a_grid_search_extracts_once(
    collection: Path, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, labels = files_of(collection)
    calls: list[int] = []

    def counted(files: Any, *rest: Any, **more: Any) -> Any:
        receipt = penult.extract(files, *rest, **more)
        calls.append(receipt.new)
        return receipt

    monkeypatch.setattr(module, "extract", counted)
    pipeline = make_pipeline(Embedder(small, store=tmp_path / "store"), StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1, 10]}, cv=3).fit(paths, labels)
    assert search.best_score_ > 0.9
    assert sum(calls) == 30
    assert len(calls) == 2
    assert cross_val_score(clone(search.best_estimator_), np.array(paths), labels, cv=3).mean() > 0.9
    assert sum(calls) == 30


def test_features_equal_those_of_the_store(collection: Path, small: str, tmp_path: Path) -> None:
    paths, _ = files_of(collection)
    embedder = Embedder(f"{small}:stage1+{small}", store=tmp_path / "store")
    rows = embedder.transform(paths[::-1])
    store = penult.open_store(tmp_path / "store", create=False)
    keys = store.catalog.files.known([ImageFile.at(path) for path in paths[::-1]])
    stage, last = (store.find_space("small-0", tap).load(keys).features for tap in ("stage1", "penultimate"))  # type: ignore[arg-type]  # all are known
    assert np.array_equal(rows, np.concatenate([stage, last], axis=1))
    assert rows.dtype == np.float32
    names = embedder.get_feature_names_out()
    assert (len(names), names[0], names[-1]) == (20, f"{small}:stage1:0", f"{small}:penultimate:11")


def test_features_of_several_backbones_are_concatenated(
    collection: Path, small: str, other: str, tmp_path: Path
) -> None:
    paths, _ = files_of(collection)
    both = Embedder(f"{other}+{small}:stage1", store=tmp_path / "store").transform(paths[:5])
    alone = [Embedder(name, store=tmp_path / "s2").transform(paths[:5]) for name in (other, f"{small}:stage1")]
    assert np.array_equal(both, np.concatenate(alone, axis=1))


def test_arrays_give_the_same_features_as_their_files(collection: Path, small: str, tmp_path: Path) -> None:
    paths, _ = files_of(collection)
    arrays = [np.asarray(Image.open(path)) for path in paths[:6]]
    from_files = Embedder(small, store=tmp_path / "a").transform(paths[:6])
    embedder = Embedder(small, store=tmp_path / "b")
    assert np.array_equal(embedder.transform(arrays), from_files)
    assert np.array_equal(embedder.transform([arrays[3], paths[1], arrays[3]]), from_files[[3, 1, 3]])
    batch = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    grey = np.repeat(batch[:, :, :, :1], 3, axis=3)
    assert np.array_equal(embedder.transform(grey), embedder.transform(batch[..., 0].astype(np.uint8)))
    space = penult.open_store(tmp_path / "b").find_space("small-0")
    before = len(space)
    embedder.transform(grey)
    assert len(space) == before


def test_clones_and_pickles_give_the_same_features(collection: Path, small: str, tmp_path: Path) -> None:
    paths, _ = files_of(collection)
    embedder = Embedder(small, store=tmp_path / "store").fit(paths)
    rows = embedder.transform(paths)
    assert np.array_equal(clone(embedder).transform(paths), rows)
    assert np.array_equal(pickle.loads(pickle.dumps(embedder)).transform(paths), rows)
    assert np.array_equal(embedder.transform(np.array(paths, object)[:, None]), rows)


def test_an_unusable_image_is_an_error_and_others_are_stored(collection: Path, small: str, tmp_path: Path) -> None:
    paths, _ = files_of(collection)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    embedder = Embedder(small, store=tmp_path / "store")
    with pytest.raises(ImageError, match=r"1 of 31 images cannot be used, for example .*bad.png"):
        embedder.transform([*paths, bad])
    assert len(penult.open_store(tmp_path / "store").find_space("small-0")) == 30


@pytest.mark.parametrize(
    ("features", "X", "said"),
    [
        ("small", ["a.png"], "No backbone is called 'small'"),
        ("efficientnet-lite0+efficientnet-lite0:penultimate", ["a.png"], "twice"),
        (" + ", ["a.png"], "expected|Expected: a backbone"),
        ("efficientnet-lite0", "a.png", "sequence of paths"),
        ("efficientnet-lite0", [], "no image"),
        ("efficientnet-lite0", np.zeros((2, 8, 8, 3)), "dtype float64 and shape"),
        ("efficientnet-lite0:stage77", ["a.png"], "stage77"),
    ],
)
def test_invalid_images_are_errors(features: str, X: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises((InputError, UnknownNameError), match=said):
        Embedder(features, store=tmp_path / "store").transform(X)


@pytest.mark.filterwarnings("ignore:Can't test estimator")
def test_the_checks_of_scikit_learn_pass() -> None:
    check_estimator(Embedder())


def test_a_pipeline_classifies_real_photos(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "images" / "hymenoptera"
    parts = {
        part: [
            (str(path), name) for name in ("ants", "bees") for path in sorted((root / part / name).glob("*.jpg"))[:12]
        ]
        for part in ("train", "val")
    }
    pipeline = make_pipeline(Embedder(store=tmp_path / "store"), LogisticRegression())
    pipeline.fit(*zip(*parts["train"], strict=True))
    assert pipeline.score(*zip(*parts["val"], strict=True)) > 0.8
