import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from penult.errors import BundleMismatchError, HeadError, InputError, MissingFileError, SpaceMismatchError
from penult.exporters.backbone import Backbone
from penult.exporters.registry import load_backbone
from penult.pipeline.extraction.extract import extract
from penult.pipeline.fit import save_dataset
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.registry import head_names
from penult.pipeline.images.decode import decode
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.models.bundle import bundle, check_images_of
from penult.pipeline.training.options import TrainOptions
from penult.pipeline.training.train import train
from penult.store import Store, open_store

# Fixed parameters instead of each head's search, which is not tested here.
PARAMS: dict[str, dict[str, Any]] = {
    "svc": {"C": 10.0, "gamma": 3e-4},
    "knn": {"n_neighbors": 5},
    "gaussian-nb": {"var_smoothing": 0.1},
    "random-forest": {"min_samples_leaf": 1, "n_estimators": 60},
    "mlp": {"alpha": 0.1, "max_iter": 60},
}


def some_images_of(folder: Path, places: slice, split: str) -> Iterator[ImageFile]:
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in place.iterdir() if path.name != "imageNotFound.gif")
        for path in files[places]:
            yield ImageFile.at(str(path), place.name, split)


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return load_backbone("efficientnet-lite0")


def add_dataset(store: Store, backbone: Backbone, name: str, files: list[ImageFile]) -> None:
    extract(files, store, backbone=backbone, taps=["penultimate"])
    save_dataset(store, name, files, name)


@pytest.fixture(scope="module")
def steel_store(shared_data: Path, lite0: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of real steel defects of six classes."""
    store = open_store(tmp_path_factory.mktemp("real") / "store")
    steel = shared_data / "images" / "steel_defects"
    add_dataset(
        store,
        lite0,
        "steel",
        [*some_images_of(steel, slice(10), "train"), *some_images_of(steel, slice(10, 12), "test")],
    )
    return store


@pytest.fixture(scope="module")
def photo_store(shared_data: Path, lite0: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of real photos of two classes."""
    store = open_store(tmp_path_factory.mktemp("photos") / "store")
    photos = shared_data / "images" / "hymenoptera"
    files = [*some_images_of(photos / "train", slice(20), "train"), *some_images_of(photos / "val", slice(5), "test")]
    add_dataset(store, lite0, "hymenoptera", files)
    return store


@pytest.mark.parametrize("kind", head_names())
def test_every_head_predicts_the_same_as_an_onnx_file(
    kind: str, steel_store: Store, lite0: Backbone, tmp_path: Path
) -> None:
    check_bundle(steel_store, "steel", kind, lite0, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", head_names())
def test_every_head_of_two_classes_predicts_the_same_as_an_onnx_file(
    kind: str, photo_store: Store, lite0: Backbone, tmp_path: Path
) -> None:
    check_bundle(photo_store, "hymenoptera", kind, lite0, tmp_path)


def check_bundle(store: Store, dataset: str, kind: str, lite0: Backbone, tmp_path: Path) -> None:
    """Bundles a head, and compares the file in ONNX Runtime with the head on the test images."""
    options = TrainOptions(params=PARAMS.get(kind, {}))
    trained = train(store, dataset=dataset, head=kind, options=options)
    head, path = trained.head, tmp_path / "model.onnx"
    model = bundle(head, lite0, path, check_images=trained.test_paths[:4])
    pixels = np.stack([decode(Path(name).read_bytes(), lite0.card.preprocessing) for name in trained.test_paths])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(None, {"pixels": pixels})
    expected = head.predict_proba(head.gather(store, trained.evaluation.keys).astype(np.float64))
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)
    assert probabilities.dtype == np.float32
    assert labels.tolist() == [head.card.classes[place] for place in expected.argmax(axis=1)]
    assert len(set(labels.tolist())) > 1
    assert model.proof["real_images"] == 4
    assert model.proof["largest_difference"] <= 1e-5


def test_the_file_contains_its_provenance(steel_store: Store, lite0: Backbone, tmp_path: Path) -> None:
    head = train(steel_store, dataset="steel", head="ridge").head
    bundle(head, lite0, tmp_path / "model.onnx", check_images=check_images_of(head, steel_store))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    assert [value.name for value in session.get_inputs()] == ["pixels"]
    assert {value.name: value.type for value in session.get_outputs()} == {
        "label": "tensor(string)",
        "probabilities": "tensor(float)",
    }
    assert json.loads(texts["penult.classes"]) == list(head.card.classes)
    assert json.loads(texts["penult.preprocessing"])["crop"] == [224, 224]
    origin = json.loads(texts["penult.provenance"])
    assert origin["backbone"]["fingerprint"] == lite0.fingerprint
    assert origin["licence"] == "Apache-2.0"
    assert (origin["head"]["dataset"], origin["head"]["dataset_version"]) == ("steel", head.card.dataset_version)
    assert origin["head"]["metrics"]["accuracy"]["value"] > 0.8
    assert json.loads(texts["penult.proof"])["real_images"] == 32


@pytest.mark.parametrize("features", ["stage1:float32", "penultimate+stage1:float16", "stage1:float32+penultimate"])
def test_taps_are_concatenated_in_the_order_of_the_card_and_rounded_as_stored(
    features: str, small_store: Store, small_backbone: Backbone, tmp_path: Path
) -> None:
    parts = [f"small-0:{part}" if part.count(":") else part for part in features.split("+")]
    trained = train(small_store, dataset="colours", features="+".join(parts), head="logistic")
    model = bundle(trained.head, small_backbone, tmp_path / "m.onnx", check_images=trained.test_paths)
    assert model.proof["real_images"] == len(trained.test_paths)
    assert model.proof["largest_difference"] < 1e-6


def test_the_file_contains_only_the_layers_of_its_taps(
    small_store: Store, small_backbone: Backbone, tmp_path: Path
) -> None:
    head = train(small_store, dataset="colours", features="small-0:stage1:float16", head="ridge").head
    bundle(head, small_backbone, tmp_path / "m.onnx")
    assert b"first_filters" in (tmp_path / "m.onnx").read_bytes()
    assert b"second_filters" not in (tmp_path / "m.onnx").read_bytes()


class Tampered(Head):
    """Returns other probabilities than its coefficients."""

    shift = 0.0

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        shares = super().predict_proba(features)
        shares[:, 0] += self.shift
        return shares


@pytest.mark.parametrize(("shift", "is_refused"), [(2e-5, True), (0.9, True), (5e-6, False)])
def test_a_model_that_differs_from_its_head_is_not_written(
    shift: float, is_refused: bool, small_head: Head, small_backbone: Backbone, collection: Path, tmp_path: Path
) -> None:
    path = tmp_path / "models" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(b"the old one")
    head = Tampered(small_head.card, small_head.estimator)
    object.__setattr__(head, "shift", shift)
    if not is_refused:
        assert bundle(head, small_backbone, path).proof["largest_difference"] > 4e-6
        return
    with pytest.raises(BundleMismatchError, match=r"For .*random image 0 the bundled model predicts"):
        bundle(head, small_backbone, path, check_images=[collection / "red" / "1.png"])
    assert path.read_bytes() == b"the old one"
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]


def test_the_error_names_the_image_that_differs(
    small_head: Head, small_backbone: Backbone, collection: Path, tmp_path: Path
) -> None:
    image = collection / "red" / "1.png"
    own = small_head.predict_proba

    class Forgetful(Head):
        def predict_proba(self, features: np.ndarray) -> np.ndarray:
            return np.roll(own(features), 1, axis=1) if len(features) == 1 else own(features)

    with pytest.raises(BundleMismatchError, match=r"red.1\.png"):
        bundle(
            Forgetful(small_head.card, small_head.estimator), small_backbone, tmp_path / "m.onnx", check_images=[image]
        )


def test_unreadable_check_images_are_counted(
    small_head: Head, small_backbone: Backbone, collection: Path, tmp_path: Path
) -> None:
    images = [collection / "red" / "1.png", tmp_path / "gone.png"]
    proof = bundle(small_head, small_backbone, tmp_path / "m.onnx", check_images=images).proof
    assert (proof["real_images"], proof["unreadable_images"]) == (1, 1)


def test_another_backbone_raises_an_error(small_head: Head, make_backbone: Any, tmp_path: Path) -> None:
    with pytest.raises(SpaceMismatchError, match="bundle it with the backbone that made its features"):
        bundle(small_head, make_backbone(1), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_a_head_on_another_view_raises_an_error(small_head: Head, small_backbone: Backbone, tmp_path: Path) -> None:
    spaces = tuple(replace(space, view="hflip") for space in small_head.card.spaces)
    head = Head(replace(small_head.card, spaces=spaces), small_head.estimator)
    with pytest.raises(HeadError, match="hflip"):
        bundle(head, small_backbone, tmp_path / "m.onnx")


def test_a_head_without_a_converter_raises_an_error_with_a_remedy(
    small_store: Store, small_backbone: Backbone, tmp_path: Path
) -> None:
    head = train(
        small_store, dataset="colours", features="penultimate", head="sklearn.semi_supervised:LabelSpreading"
    ).head
    with pytest.raises(HeadError, match=r"LabelSpreading cannot be written as ONNX.* What to do: bundle another kind"):
        bundle(head, small_backbone, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_a_full_disk_leaves_the_old_file(
    small_head: Head, small_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "models" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(b"the old one")

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        bundle(small_head, small_backbone, path)
    assert [(entry.name, entry.read_bytes()) for entry in path.parent.iterdir()] == [("model.onnx", b"the old one")]


def test_an_unwritable_path_raises_an_error_before_any_work(
    small_head: Head, small_backbone: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(MissingFileError, match="There is no folder"):
        bundle(small_head, small_backbone, tmp_path / "no" / "m.onnx")
    with pytest.raises(InputError, match="is a folder"):
        bundle(small_head, small_backbone, tmp_path)
