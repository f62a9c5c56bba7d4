"""Reports of saved heads, and the verb `heads`."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import penult
from penult.errors import InputError, MissingExtraError, UnknownNameError
from penult.exporters.backbone import Backbone
from penult.exporters.registry import load_backbone
from penult.pipeline.cli.app import app
from penult.pipeline.extraction.extract import extract
from penult.pipeline.fit import Fitted, fit, save_dataset
from penult.pipeline.heads.saved_heads import remove_head, saved_head
from penult.pipeline.images.decode import decode
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.reading import read_again
from penult.pipeline.models.model import Model
from penult.pipeline.report import Advice, ComparisonTable, CurvePoint, DoubtfulLabel, GroupImage, ImageGroup, Insights
from penult.pipeline.report import embedding_map as projection
from penult.pipeline.report.insights import insights_of
from penult.pipeline.report.network_baseline import classifier_of, network_baseline
from penult.pipeline.report.reporting import report_of
from penult.pipeline.runtime.session import Session
from penult.pipeline.samples.rows import choose_rows
from penult.pipeline.training.options import TrainOptions
from penult.pipeline.training.testing import retest
from penult.pipeline.training.train import train
from penult.store import Store, open_store
from penult.store.tables.table import Table
from tests.pipeline.colours import draw_colours

NAME = "photos-logistic"


@pytest.fixture(scope="module")
def made(make_backbone: Callable[[int], Backbone], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fitted]:
    """A folder with images, one of them broken, and the result of `fit`. Each test copies the store."""
    work = tmp_path_factory.mktemp("made")
    images = draw_colours(work / "photos")
    (images / "red" / "broken.png").write_bytes(b"no image")
    return work, fit(images, work / "store", backbone=make_backbone(0), output=work / "out")


@pytest.fixture
def fitted(made: tuple[Path, Fitted]) -> Fitted:
    return made[1]


@pytest.fixture
def photos(made: tuple[Path, Fitted]) -> Path:
    return made[0] / "photos"


@pytest.fixture
def store(made: tuple[Path, Fitted], tmp_path: Path) -> Store:
    shutil.copytree(made[0] / "store", tmp_path / "store")
    return open_store(tmp_path / "store")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def test_testing_a_saved_head_again_gives_the_same_results(fitted: Fitted, store: Store) -> None:
    again = retest(saved_head(store, NAME), store)
    assert again.test_paths == fitted.trained.test_paths
    assert again.evaluation.to_json() == fitted.trained.evaluation.to_json()
    assert again.to_json() == fitted.trained.to_json() | {"seconds": again.seconds}


def test_the_report_of_a_saved_head_equals_that_of_fit(fitted: Fitted, store: Store, tmp_path: Path) -> None:
    done = run("report", NAME, "-o", tmp_path / "again.html", "--store", store.path, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"head": NAME, "report": str(tmp_path / "again.html")}
    first, again = (_text(path) for path in (fitted.delivery.report, tmp_path / "again.html"))
    again = again.replace(str(store.path), str(fitted.delivery.report.parents[1] / "store"))
    assert again == re.sub(r" Extraction (.*?)(?= Made by)", "", first), "all but the receipt of the extraction"
    assert "red/broken.png" in again
    known = insights_of(saved_head(store, NAME), store)
    third = penult.report(NAME, store, tmp_path / "third.html", insights=known)
    assert third.read_bytes() == (tmp_path / "again.html").read_bytes()


def _text(path: Path) -> str:
    page = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", path.read_text(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_report_shows_insights(store: Store, tmp_path: Path) -> None:
    known = Insights(
        leaks=[
            ImageGroup([GroupImage("d/4.png", "red", "train"), GroupImage("e/5.png", "red", "test")], "similarity 0.98")
        ],
        near_duplicates=[ImageGroup([GroupImage("a/1.png", "red"), GroupImage("b/2.png", "blue")], "similarity 0.99")],
        label_errors=[DoubtfulLabel("c/3.png", "red", "green", 0.97)],
        learning_curve=[CurvePoint(10, 0.8, 0.6, 0.9), CurvePoint(20, 0.9, 0.8, 0.95)],
        comparison=ComparisonTable(["features", "accuracy"], [["penultimate", 1.0], ["stage1", 0.9]], 0, "Five folds."),
        advice=[Advice("Look at the label.", "One is suspect.")],
    )
    text = _text(penult.report(NAME, store, tmp_path / "known.html", insights=known))
    for part in (
        "similarity 0.98",
        "similarity 0.99",
        "looks like green",
        "From 10 to 20",
        "Five folds.",
        "Look at the label.",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("kind", "target", "params"),
    [("logistic", "label", {}), ("svc", "label", {}), ("lda", "shade", {}), ("logistic", "shade", {"C": 0.5})],
)
def test_the_command_in_the_report_trains_the_same_head(
    kind: str, target: str, params: dict[str, float], store: Store
) -> None:
    photos = store.catalog.datasets.load("photos")
    shades = np.where(photos.labels == "red", "warm", "cold")
    store.catalog.datasets.save("photos", Table(photos.keys, photos.paths, {**photos.columns, "shade": shades}))
    options = TrainOptions(params=params, target=target)
    before = train(store, dataset="photos", head=kind, name="a head", options=options).head
    trained = retest(saved_head(store, "a head"), store)
    content = report_of(trained, store, _backbone_of(store))
    assert content.evaluation.classes == (("blue", "green", "red") if target == "label" else ("cold", "warm"))
    assert content.command.startswith("penult train photos ")
    remove_head(store, "a head")
    done = run(*shlex.split(content.command)[1:])
    assert done.exit_code == 0, done.output
    after = saved_head(store, "a head")
    assert after.card.spaces == before.card.spaces
    rows = after.gather(store, photos.keys)
    np.testing.assert_array_equal(after.predict_proba(rows), before.predict_proba(rows))


def _backbone_of(store: Store) -> Backbone:
    space = store.spaces()[0].spec
    return Backbone.load(store.backbone_path(space.backbone, space.fingerprint))


def test_a_report_leaves_out_failed_images_of_other_collections(
    fitted: Fitted, store: Store, small_backbone: Backbone, tmp_path: Path
) -> None:
    (tmp_path / "photos-of-others").mkdir()
    (tmp_path / "photos-of-others" / "x.png").write_bytes(b"")
    extract(tmp_path / "photos-of-others", store, backbone=small_backbone)
    assert len(store.catalog.ledger.failures()) == 2
    failed = report_of(fitted.trained, store, small_backbone).failed
    assert [Path(failure.path).name for failure in failed] == ["broken.png"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_images_of_an_archive_are_shown_and_checked_like_files(
    kind: str, photos: Path, small_backbone: Backbone, tmp_path: Path
) -> None:
    archive = shutil.make_archive(str(tmp_path / "packed"), kind, photos)
    fitted = fit(archive, tmp_path / "store", backbone=small_backbone, output=tmp_path / "out")
    text = fitted.delivery.report.read_text()
    assert 'class="picture broken"' not in text
    assert text.count("background-image:url(data:image/") >= fitted.trained.evaluation.n
    proof = Model.load(fitted.delivery.model).proof
    assert (proof["real_images"], proof["unreadable_images"]) == (fitted.trained.evaluation.n, 0)
    assert read_again(fitted.trained.test_paths[0])
    with pytest.raises(FileNotFoundError):
        read_again(f"{archive}/red/none.png")


def test_a_report_does_not_reveal_the_folder_of_the_images(
    photos: Path, small_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "home of ann" / "photos"
    shutil.copytree(photos, images)
    shutil.copy(images / "red" / "1.png", images / "blue" / "same.png")
    monkeypatch.chdir(images.parent)
    fitted = fit("photos", backbone=small_backbone)
    assert len(fitted.labelling.conflicts) == 1
    text = fitted.delivery.report.read_text()
    assert "left out because of several labels: 1 image" in text
    assert "blue/same.png" in text
    assert "--store penult-store<" in text
    assert "home of ann" not in text


def test_a_report_shows_images_with_two_labels_or_splits(store: Store, small_backbone: Backbone) -> None:
    photos = store.catalog.datasets.load("photos")
    assert photos.labels is not None
    assert photos.splits is not None
    tested = int(np.flatnonzero(photos.splits == "test")[0])
    trained = int(np.flatnonzero((photos.splits == "train") & (photos.labels == "red"))[0])
    places = [*range(len(photos)), tested, trained]
    labels = np.array([*photos.labels, photos.labels[tested], "blue"])
    splits = np.array([*photos.splits, "train", "train"])
    table = Table(
        photos.keys[places], tuple(photos.paths[place] for place in places), {"label": labels, "split": splits}
    )
    store.catalog.datasets.save("photos", table)
    content = report_of(train(store, dataset="photos"), store, small_backbone)
    (leak,), (conflict,) = content.insights.leaks, content.conflicts
    assert [(str(image.path), image.split) for image in leak.images] == [
        (photos.paths[tested], "test"),
        (photos.paths[tested], "train"),
    ]
    assert [image.label for image in conflict.images] == ["red", "blue"]


def test_the_network_baseline_is_the_same_from_rows_and_from_images(
    fitted: Fitted, store: Store, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = choose_rows(store.catalog.datasets.load("photos"))
    from_rows = network_baseline(small_backbone, store, rows)
    assert from_rows is not None
    assert (from_rows.tested, from_rows.own_classes) == (len(rows.test), 3)
    elsewhere = open_store(store.path.parent / "empty")
    assert network_baseline(small_backbone, elsewhere, rows) == from_rows, "no row is there, so the images are run"
    baselines = report_of(fitted.trained, store, small_backbone).baselines
    assert [baseline.accuracy for baseline in baselines] == [from_rows.accuracy]
    monkeypatch.setattr("penult.pipeline.report.network_baseline.MOST_ROWS", 5)
    (said_of_some,) = report_of(fitted.trained, store, small_backbone).baselines
    assert said_of_some.name.endswith(", on 5 of the images")


def test_the_network_baseline_maps_imagenet_classes_to_labels(shared_data: Path, tmp_path: Path) -> None:
    """Uses photos of two classes that ImageNet has, too."""
    network, store = load_backbone("efficientnet-lite0"), open_store(tmp_path / "store")
    folder = shared_data / "images" / "hymenoptera" / "val"
    files = [
        ImageFile.at(str(path), place, "test" if number % 2 else "train")
        for place in ("ants", "bees")
        for number, path in enumerate(sorted((folder / place).iterdir())[:16])
    ]
    extract(files, store, backbone=network)
    save_dataset(store, "insects", files, "insects")
    rows = choose_rows(store.catalog.datasets.load("insects"))
    found = network_baseline(network, store, rows)
    assert found is not None
    assert found.accuracy > 0.8, "it knows ants and bees from ImageNet"
    session = Session(network, ["penultimate", "logits"])
    graph = classifier_of(network)
    assert graph is not None
    import onnxruntime

    part = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = np.stack([decode(Path(file.path).read_bytes(), network.card.preprocessing) for file in files[:4]])
    whole = session.run(pixels)
    (logits,) = part.run(["logits"], {part.get_inputs()[0].name: whole["penultimate"]})
    np.testing.assert_allclose(logits, whole["logits"], atol=1e-4)


@pytest.mark.slow
def test_a_map_by_umap_is_reproducible_and_keeps_groups_apart() -> None:
    pytest.importorskip("umap", reason="the extra [umap] is not installed")
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(3, 20), 20, axis=0) * 8 + rng.normal(size=(60, 20))
    first, again = (projection.project(groups, "umap") for _ in range(2))
    np.testing.assert_array_equal(first, again)
    centres = first.reshape(3, 20, 2).mean(axis=1)
    spread = first.reshape(3, 20, 2).std(axis=1).max()
    assert min(np.linalg.norm(centres[i] - centres[i - 1]) for i in range(3)) > 3 * spread


def test_an_impossible_map_raises_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    groups = np.eye(30)
    with pytest.raises(MissingExtraError, match=r"pip install 'penult\[umap\]'"):
        projection.project(groups, "umap")
    with pytest.raises(UnknownNameError, match="pca, umap"):
        projection.project(groups, "tsne")


def test_heads_are_listed_and_shown_with_their_results(fitted: Fitted, store: Store) -> None:
    train(store, dataset="photos", head="lda")
    listed = run("heads", "--store", store.path)
    assert re.search(rf"{NAME} +logistic +photos@1 +3 +\d+ +\d+ +1\.000 +0\.\d+ to 1\.000", listed.stdout)
    shown = run("heads", "show", NAME, "--store", store.path)
    assert "accuracy           1.0000 (95 % interval 0." in shown.stdout
    assert "small-0:penultimate (float16, " in shown.stdout
    card = json.loads(run("heads", "--store", store.path, "show", "photos-lda", "--json").stdout)
    assert card["kind"] == "lda"
    assert Path(card["path"]).is_dir()
    kinds = json.loads(run("heads", "kinds", "--json").stdout)
    assert kinds["ridge"].startswith("Ridge regression")


def test_removing_a_head_keeps_everything_else(fitted: Fitted, store: Store, photos: Path) -> None:
    train(store, dataset="photos", head="lda")
    asked = run("heads", "remove", NAME, "--store", store.path)
    assert isinstance(asked.exception, InputError), "nobody is there to be asked"
    typo = run("heads", "remove", "photos-lda", "photos-logistics", "--yes", "--store", store.path)
    assert isinstance(typo.exception, UnknownNameError)
    assert set(store.catalog.heads.all()) == {NAME, "photos-lda"}, "nothing is removed where one name is wrong"
    done = run("heads", "remove", NAME, "--yes", "--store", store.path)
    assert (done.exit_code, done.stdout) == (0, f"{NAME} is removed.\n")
    assert set(store.catalog.heads.all()) == {"photos-lda"}
    assert [entry.name for entry in store.heads_path.iterdir()] == ["photos-lda"]
    assert fitted.delivery.model.is_file()
    assert run("report", NAME, "--store", store.path).exit_code != 0
    assert [one.label for one in penult.predict("photos-lda", photos / "red" / "1.png", store=store)] == ["red"]


def test_an_interrupted_removal_is_finished_by_the_next(
    fitted: Fitted, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", fail)
        with pytest.raises(PermissionError):
            remove_head(store, NAME)
    assert store.catalog.heads.all() == {}, "what is half gone is not listed"
    remove_head(store, NAME)
    assert list(store.heads_path.iterdir()) == []
    with pytest.raises(UnknownNameError):
        remove_head(store, NAME)
    with pytest.raises(UnknownNameError):
        remove_head(store, "../spaces")
    assert store.spaces()
