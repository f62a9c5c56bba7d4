"""The main job on real photos, and after changes of their folder."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penult.errors import HeadError, InputError, UnknownNameError
from penult.exporters.backbone import Backbone
from penult.pipeline import fit as deliver
from penult.pipeline.fit import dataset_name, fit
from penult.pipeline.models.model import Model
from penult.pipeline.models.predict import predict
from penult.store import open_store


def _splits(store: Path, name: str) -> dict[bytes, str]:
    dataset = open_store(store).catalog.datasets.load(name)
    assert dataset.splits is not None
    return dict(zip((key.tobytes() for key in dataset.keys), dataset.splits, strict=True))


def _draw(path: Path, channel: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 110, (44, 50, 3), dtype=np.uint8)
    pixels[..., channel] += 120
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def unreviewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes reports without review and advice, which take most of the time of a small fit."""
    monkeypatch.setattr(deliver, "REVIEW_IMAGES", 0)


def test_a_folder_becomes_a_classifier(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    fitted = fit(collection, tmp_path / "store", backbone=small_backbone, output=tmp_path / "out")
    shown = json.loads(json.dumps(fitted.to_json()))
    wanted = {"head", "classes", "n_train", "n_test", "accuracy", "accuracy_low", "accuracy_high", "log_loss"}
    assert wanted | {"seconds", "model", "report"} <= set(shown)
    assert shown["classes"] == ["blue", "green", "red"]
    assert shown["n_train"] + shown["n_test"] == 30
    assert shown["accuracy"] == 1.0, "the three colours are separated by any network"
    assert shown["receipt"]["new"] == 30
    assert "<html" in Path(shown["report"]).read_text()
    for prediction in predict(Model.load(shown["model"]), collection):
        assert prediction.label == Path(prediction.path).parent.name


def test_the_report_of_a_fit_shows_a_label_that_is_probably_wrong(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    _draw(collection / "green" / "truly-red.png", 0, seed=77)
    monkeypatch.setattr(deliver, "ADVISED_WORK", 1)
    fitted = fit(collection, tmp_path / "store", backbone=small_backbone, output=tmp_path / "out")
    page = fitted.delivery.report.read_text()
    assert "No advice was computed" in page
    assert page[page.index("Labels that are probably wrong") :].count("truly-red.png") > 0
    monkeypatch.setattr(deliver, "REVIEW_IMAGES", 30)
    fitted = fit(collection, tmp_path / "store", backbone=small_backbone, output=tmp_path / "out")
    page = fitted.delivery.report.read_text()
    assert "Labels that are probably wrong" not in page
    assert "more than 30 images" in page


@pytest.mark.usefixtures("unreviewed")
def test_a_second_fit_extracts_nothing_and_ten_new_images_cost_ten(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    first = fit(collection, tmp_path / "store", backbone=small_backbone, output=tmp_path)
    again = fit(collection, tmp_path / "store", backbone=small_backbone, output=tmp_path)
    assert (again.receipt.new, again.receipt.reused) == (0, 30)
    assert again.dataset.version == first.dataset.version
    before = _splits(tmp_path / "store", "photos")
    for number in range(10):
        _draw(collection / "green" / f"new-{number}.png", 1, 100 + number)
    more = fit(collection, tmp_path / "store", backbone=small_backbone, output=tmp_path)
    assert (more.receipt.new, more.receipt.reused) == (10, 30)
    assert more.dataset.version == first.dataset.version + 1
    after = _splits(tmp_path / "store", "photos")
    assert {key: after[key] for key in before} == before, "adding images moves no old one"


@pytest.mark.usefixtures("unreviewed")
def test_the_split_depends_only_on_the_images(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    fit(collection, tmp_path / "one", backbone=small_backbone, output=tmp_path)
    moved = tmp_path / "moved" / "photos"
    shutil.copytree(collection, moved)
    (moved / "red" / "0.png").rename(moved / "red" / "renamed.png")
    fit(moved, tmp_path / "two", backbone=small_backbone, output=tmp_path)
    assert _splits(tmp_path / "one", "photos") == _splits(tmp_path / "two", "photos")


@pytest.mark.usefixtures("unreviewed")
def test_the_split_is_stratified(tmp_path: Path, small_backbone: Backbone) -> None:
    for channel, name in enumerate(("red", "green", "blue")):
        for number in range(60):
            _draw(tmp_path / "many" / name / f"{number}.png", channel, 1000 * channel + number)
    fitted = fit(tmp_path / "many", tmp_path / "store", backbone=small_backbone, output=tmp_path)
    assert fitted.dataset.labels is not None
    tested = Counter(fitted.dataset.labels[fitted.dataset.splits == "test"].tolist())
    assert set(tested) == {"red", "green", "blue"}
    for count in tested.values():
        assert 0.05 < count / 60 < 0.4


@pytest.mark.usefixtures("unreviewed")
def test_the_folders_own_split_is_kept(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    for split, numbers in (("Train", range(7)), ("VALID", range(7, 10))):
        for name in ("red", "green", "blue"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for number in numbers:
                shutil.copy(collection / name / f"{number}.png", tmp_path / "set" / split / name)
    fitted = fit(tmp_path / "set", tmp_path / "store", backbone=small_backbone, output=tmp_path)
    assert (fitted.trained.head.card.n_train, fitted.trained.head.card.n_test) == (21, 9)


@pytest.mark.usefixtures("unreviewed")
def test_a_table_is_a_collection_too(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    lines = ["path,label,split"]
    for name in ("red", "green", "blue"):
        lines += [f"photos/{name}/{n}.png,{name},{'test' if n > 7 else 'train'}" for n in range(10)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    fitted = fit(tmp_path / "labels.csv", tmp_path / "store", backbone=small_backbone, output=tmp_path)
    assert fitted.dataset.name == "labels"
    assert (fitted.trained.head.card.n_train, fitted.trained.head.card.n_test) == (24, 6)


@pytest.mark.usefixtures("unreviewed")
def test_copies_are_in_one_split_and_contradictions_are_left_out(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    shutil.copy(collection / "red" / "0.png", collection / "red" / "same.png")
    shutil.copy(collection / "red" / "1.png", collection / "blue" / "contradiction.png")
    fitted = fit(collection, tmp_path / "store", backbone=small_backbone, output=tmp_path)
    assert len(fitted.dataset) == 29
    assert len({key.tobytes() for key in fitted.dataset.keys}) == 29
    notes = " ".join(fitted.labelling.notes)
    assert "left out because of several labels: 1 image" in notes
    assert "exact copies of other files, which count once: 1 file" in notes


def test_hostile_names_do_no_harm(tmp_path: Path, small_backbone: Backbone) -> None:
    names = ["<script>alert(1)</script>".replace("/", "\u2215"), 'with space, comma; "quotes"', "Ünïcödé 猫"]
    for channel, name in enumerate(names):
        for number in range(8):
            _draw(tmp_path / "odd" / name / f"{number} '&<>.png", channel, 100 * channel + number)
    fitted = fit(tmp_path / "odd", tmp_path / "store", backbone=small_backbone, output=tmp_path)
    assert sorted(fitted.trained.head.card.classes) == sorted(names)
    assert "<script>alert" not in (tmp_path / "report.html").read_text()


def test_unusable_collections_raise_an_error_before_the_extraction(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    one = tmp_path / "one"
    shutil.copytree(collection / "red", one / "red")
    flat = collection / "red"
    for images, result in ((one, "the same class, 'red'"), (flat, "No image in .* has a label")):
        with pytest.raises(InputError, match=result):
            fit(images, tmp_path / "store", backbone=small_backbone, output=tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'logistic'"):
        fit(collection, tmp_path / "store", head="logistc", backbone=small_backbone, output=tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'efficientnet-lite0'"):
        fit(collection, tmp_path / "store", backbone="efficientnet-lite", output=tmp_path)
    assert not (tmp_path / "store").exists()


def test_a_read_only_output_folder_raises_an_error_before_the_extraction(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"is not writable: Not a directory"):
        fit(collection, tmp_path / "store", backbone=small_backbone, output=tmp_path / "file" / "below")
    assert not (tmp_path / "store").exists()


def test_classes_without_usable_images_raise_an_error(tmp_path: Path, small_backbone: Backbone) -> None:
    _draw(tmp_path / "photos" / "a" / "0.png", 0, 0)
    (tmp_path / "photos" / "b").mkdir()
    (tmp_path / "photos" / "b" / "0.png").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"Of the 2 classes in .*, only 1 have images that could be used"):
        fit(tmp_path / "photos", tmp_path / "store", backbone=small_backbone, output=tmp_path)


def test_names_of_datasets() -> None:
    assert dataset_name("/data/My cats!/") == "My-cats"
    assert dataset_name("labels.csv") == "labels"


@pytest.mark.parametrize(
    ("folder", "least"), [("hymenoptera", 0.93), pytest.param("steel_defects", 0.97, marks=pytest.mark.slow)]
)
def test_real_collections_reach_the_expected_accuracy(
    shared_data: Path, tmp_path: Path, folder: str, least: float
) -> None:
    fitted = fit(shared_data / "images" / folder, tmp_path / "store", output=tmp_path)
    assert fitted.trained.evaluation.accuracy.value >= least
    assert fitted.receipt.failed == 0


@pytest.mark.usefixtures("unreviewed")
def test_files_that_fit_wrote_are_not_images_of_the_next_fit(collection: Path, small_backbone: Backbone) -> None:
    for _ in range(2):
        fitted = fit(collection, collection / "penult-store", backbone=small_backbone, output=collection)
        assert (fitted.receipt.found, fitted.receipt.failed) == (30, 0)
    assert {"report.html", "model.onnx"} <= {path.name for path in collection.iterdir()}


def test_a_head_without_an_onnx_form_still_has_a_report(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    with pytest.raises(HeadError, match="LabelSpreading cannot be written as ONNX"):
        fit(
            collection,
            tmp_path / "store",
            backbone=small_backbone,
            output=tmp_path / "out",
            head="sklearn.semi_supervised:LabelSpreading",
        )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]
    assert list(open_store(tmp_path / "store").catalog.heads.all()) == ["photos-sklearn.semi_supervised.LabelSpreading"]
