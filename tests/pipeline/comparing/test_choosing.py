"""Choosing the kind of head, and the threshold for 'unsure', on held-out training images."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from penult.errors import InputError
from penult.exporters.backbone import Backbone
from penult.pipeline.cli.app import app
from penult.pipeline.comparing import choosing
from penult.pipeline.comparing.compare import CompareOptions, compare
from penult.pipeline.evaluation.abstention import choose_abstention
from penult.pipeline.extraction.extract import extract
from penult.pipeline.fit import fit, save_dataset
from penult.pipeline.heads.head import Head
from penult.pipeline.images.listing import list_images
from penult.pipeline.models.bundle import bundle
from penult.pipeline.models.predict import predict
from penult.pipeline.report.reporting import report
from penult.pipeline.serving.classifiers import classifier_for
from penult.pipeline.training.options import TrainOptions
from penult.pipeline.training.testing import retest
from penult.pipeline.training.train import train
from penult.store import SpaceSpec, Store, key_of, open_store
from penult.store.tables.table import Table


def kept(store: Store, features: NDArray[np.floating], labels: NDArray[Any], name: str = "things") -> None:
    n = len(labels)
    keys = np.frombuffer(b"".join(key_of(f"{name}{i}".encode()) for i in range(n)), np.uint8).reshape(n, 16)
    store.space(SpaceSpec(name, "a" * 64, "penultimate", features.shape[1])).add(keys, features.astype(np.float32))
    columns: dict[str, Any] = {
        "label": [str(y) for y in labels],
        "split": ["test" if i % 3 == 0 else "train" for i in range(n)],
        "size": [float(y) for y in labels],
    }
    store.catalog.datasets.save(name, Table(keys, tuple(f"{i}.png" for i in range(n)), columns))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """400 noisy digits of four classes."""
    features, labels = load_digits(n_class=4, return_X_y=True)
    opened = open_store(tmp_path / "store")
    kept(opened, features[:400] + np.random.default_rng(0).normal(0, 8, (400, 64)), labels[:400])
    return opened


def test_auto_chooses_the_best_quick_head_and_reports_its_lead(store: Store) -> None:
    trained = train(store, dataset="things", head="auto")
    card = trained.head.card
    assert card.choice is not None
    assert card.kind == max(card.choice["tried"], key=card.choice["tried"].__getitem__)
    assert set(card.choice["tried"]) == {"logistic", "ridge", "lda", "centroid"}
    assert (card.name, card.choice["n"]) == ("things-auto", card.n_train)
    first, second = sorted(card.choice["tried"].values(), reverse=True)[:2]
    assert card.choice["lead"]["value"] == pytest.approx(first - second)
    assert card.choice["lead"]["low"] < first - second < card.choice["lead"]["high"]
    assert f"{card.kind} was chosen from the quick heads" in trained.notes[-1]
    assert Head.load(store.heads_path / "things-auto").card == card
    named = train(store, dataset="things", head=card.kind)
    assert np.array_equal(named.evaluation.probabilities, trained.evaluation.probabilities)
    assert named.head.card.choice is None
    assert compare(store, dataset="things").computed == 0, "a comparison finds what auto has held out"


def test_a_significantly_better_head_is_reported_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "QUICK_HEADS", ("centroid", "lda"))
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 600)
    # The classes differ in the difference of two features alone, and their centres in the first.
    common = rng.normal(0, 2, 600)
    features = np.c_[common + labels, common] + rng.normal(0, 0.2, (600, 2))
    opened = open_store(tmp_path / "store")
    kept(opened, features, labels)
    for class_weight in (None, "balanced"):
        trained = train(opened, dataset="things", head="auto", options=TrainOptions(class_weight=class_weight))
        choice = trained.head.card.choice
        assert choice is not None
        assert (trained.head.card.kind, choice["is_real"]) == ("lda", True)
        assert choice["lead"]["low"] > 0.1
        assert "a significant difference" in trained.notes[-1]


def test_the_test_split_chooses_nothing(store: Store) -> None:
    options = TrainOptions(min_accuracy=0.97)
    before = train(store, dataset="things", head="auto", options=options).head.card
    table = store.catalog.datasets.load("things")
    labels, tested = np.array(table.labels), np.array(table.splits) == "test"
    labels[tested] = np.random.default_rng(0).permutation(labels[tested])
    store.catalog.datasets.save("things", table.with_columns(label=labels.tolist()))
    after = train(store, dataset="things", head="auto", options=options).head.card
    assert (after.kind, after.choice, after.abstention) == (before.kind, before.choice, before.abstention)
    assert after.metrics["accuracy"]["value"] < 0.5 < before.metrics["accuracy"]["value"]


def test_balanced_weights_choose_by_balanced_accuracy(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random(900) < 0.1).astype(int)
    opened = open_store(tmp_path / "store")
    kept(opened, rng.normal(size=(900, 10)) + 0.5 * labels[:, None], labels)
    trained = train(opened, dataset="things", head="auto", options=TrainOptions(class_weight="balanced"))
    choice = trained.head.card.choice
    assert choice is not None
    assert choice["measure"] == "balanced_accuracy"
    found = compare(opened, dataset="things", options=CompareOptions(class_weight="balanced"))
    balanced = {one.head: one.evaluation.balanced_accuracy for one in found.tries}
    assert choice["tried"] == pytest.approx(balanced)
    assert trained.head.card.kind == max(balanced, key=balanced.__getitem__)
    first, second = sorted(balanced.values(), reverse=True)[:2]
    assert choice["lead"]["value"] == pytest.approx(first - second)
    assert trained.head.card.params["class_weight"] == "balanced"


def test_only_a_part_of_many_images_is_held_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "MOST_ROWS", 100)
    trained = train(store, dataset="things", head="auto", options=TrainOptions(min_accuracy=0.9))
    assert trained.head.card.choice is not None
    assert trained.head.card.abstention is not None
    assert trained.head.card.choice["n"] == trained.head.card.abstention["held_out"]["n"] <= 100
    (text,) = [note for note in trained.notes if "were held out" in note]
    assert f"{trained.head.card.choice['n']} of the {trained.head.card.n_train} training images" in text
    assert trained.head.card.n_train > 250


def test_a_comparison_is_limited_by_the_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penult.pipeline.comparing.held_out.usable_memory_bytes", lambda: 2 * 4 * 4 * 64 * 150)
    found = compare(store, dataset="things", heads=["lda"])
    assert found.best.evaluation.n <= 150
    assert "as many as fit into memory" in found.notes[-1]
    labels = found.best.evaluation.labels
    assert np.ptp(np.bincount(labels)) < 10, "each class has its share"


@pytest.mark.parametrize(
    ("head", "options", "text"),
    [
        ("auto", {"params": {"C": 1.0}}, "the parameters C cannot be used with the head auto"),
        ("auto", {"start_from": "things-logistic"}, "a head to start from cannot be used with the head auto"),
        ("knn", {"class_weight": "balanced"}, "does not support class weights"),
        ("logistic", {"min_accuracy": 1.5}, "the accuracy asked for is 1.5"),
        ("logistic", {"min_accuracy": 0.9, "views": ("identity",)}, "--min-accuracy cannot be combined with --views"),
        ("logistic", {"min_accuracy": 0.9999}, "no probability is high enough for 100.0% correct answers"),
    ],
)
def test_contradictory_choices_raise_an_error(store: Store, head: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        train(store, dataset="things", head=head, options=TrainOptions(**options))


@pytest.mark.parametrize(
    ("head", "options", "text"),
    [
        ("auto", {}, "the head auto is for classes, and this is regression.*ridge, svr, lightgbm"),
        ("ridge", {"class_weight": "balanced"}, "--class-weight does not apply to regression"),
        ("ridge", {"min_accuracy": 0.9}, "--min-accuracy does not apply to regression"),
    ],
)
def test_choices_for_classes_do_not_apply_to_numbers(
    store: Store, head: str, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(InputError, match=text):
        train(store, dataset="things", head=head, options=TrainOptions(target="size", **options))


def drawn(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Two classes with calibrated probabilities."""
    rng = np.random.default_rng(seed)
    first = rng.beta(1.5, 0.6, n)
    return np.c_[first, 1 - first], (rng.random(n) > first).astype(np.intp)


def test_the_lowest_sufficient_threshold_is_chosen() -> None:
    chances, codes = drawn(4000, 0)
    found = choose_abstention(chances, codes, 0.9)
    confidence, is_right = chances.max(axis=1), chances.argmax(axis=1) == codes
    assert is_right.mean() < 0.85
    assert found.held_out.right.value >= 0.9
    assert found.held_out.answered.value == np.mean(confidence >= found.min_confidence)
    for lower in np.sort(confidence[confidence < found.min_confidence]):
        answered = confidence >= lower
        assert (is_right & answered).sum() < 0.9 * (answered.sum() + 1)


def test_the_threshold_keeps_the_wanted_accuracy_on_new_images() -> None:
    """Over many samples of 300 images, the threshold keeps the wanted accuracy on new images on average."""
    rights = []
    for seed in range(60):
        found = choose_abstention(*drawn(300, seed), 0.9)
        chances, codes = drawn(5000, 1000 + seed)
        answered = chances.max(axis=1) >= found.min_confidence
        rights.append((chances.argmax(axis=1) == codes)[answered].mean())
    assert 0.895 < np.mean(rights) < 0.93


def test_equal_probabilities_share_one_side_of_the_threshold() -> None:
    chances = np.array([[0.9, 0.1]] * 60 + [[0.7, 0.3]] * 40)
    codes = np.array([0] * 60 + [1] * 20 + [0] * 20)
    found = choose_abstention(chances, codes, 0.95)
    assert found.min_confidence == pytest.approx(0.8)
    assert found.held_out.answered.value == 0.6
    everything = choose_abstention(chances, np.zeros(100, np.intp), 0.95)
    assert everything.min_confidence == 0
    assert "No image is left unanswered" in everything.sentence
    with pytest.raises(InputError, match=r"at most 98.3%"):
        choose_abstention(chances, codes, 0.99)


def test_the_threshold_is_on_the_card_and_in_the_report(store: Store, tmp_path: Path) -> None:
    trained = train(store, dataset="things", options=TrainOptions(min_accuracy=0.98))
    card, evaluation = trained.head.card, trained.evaluation
    assert card.abstention is not None
    assert 0 < card.min_confidence == evaluation.min_confidence == card.abstention["min_confidence"]
    confident = evaluation.probabilities.max(axis=1) >= card.min_confidence
    assert card.metrics["answered"] == confident.mean() < 1
    assert card.metrics["answered_right"] == np.mean((evaluation.predicted == evaluation.labels)[confident])
    assert card.metrics["answered_right"] > evaluation.accuracy.value
    assert trained.to_json()["answered"] == card.metrics["answered"]
    again = retest(Head.load(store.heads_path / card.name), store)
    assert again.evaluation.summary() == evaluation.summary()
    assert again.notes[-1] == trained.notes[-1]
    assert "With a minimum probability of " in trained.notes[-1]
    shown = CliRunner().invoke(app, ["heads", "show", card.name, "--store", str(store.path)], catch_exceptions=False)
    (line,) = [line for line in shown.stdout.splitlines() if "answered right" in line]
    assert "95 % interval" in line
    assert len([line for line in shown.stdout.splitlines() if line.strip().startswith("accuracy")]) == 1


@pytest.fixture
def colours(collection: Path, small_backbone: Backbone, tmp_path: Path) -> Store:
    opened = open_store(tmp_path / "store")
    files = list(list_images(collection))
    extract(files, opened, backbone=small_backbone)
    save_dataset(opened, "colours", files, "colours")
    return opened


def test_predict_and_serve_are_unsure_where_the_head_is(
    colours: Store, collection: Path, small_backbone: Backbone, tmp_path: Path
) -> None:
    head = train(colours, dataset="colours", options=TrainOptions(min_accuracy=0.8)).head
    assert head.card.abstention is not None
    floor = float(np.median([one.confidence for one in predict(head, collection, store=colours)]))
    stricter = {**head.card.abstention, "min_confidence": floor}
    head = replace(head, card=replace(head.card, abstention=stricter))
    model = bundle(head, small_backbone, tmp_path / "model.onnx")
    assert (head.card.min_confidence, model.min_confidence) == (floor, floor)
    for asked in (head, tmp_path / "model.onnx"):
        found = list(predict(asked, collection, store=colours))
        assert {one.label == "unsure" for one in found} == {True, False}
        unsure = [one.confidence for one in found if one.label == "unsure"]
        assert max(map(float, filter(None, unsure))) < floor
        assert all(one.label != "unsure" for one in predict(asked, collection, store=colours, min_confidence=0.0))
        assert classifier_for(asked, colours).min_confidence == floor


def test_the_verbs_take_what_the_functions_take(
    colours: Store, collection: Path, small_backbone: Backbone, tmp_path: Path
) -> None:
    words = ["train", "colours", "--store", str(colours.path), "--json"]
    given = ["--head", "auto", "--class-weight", "balanced", "--min-accuracy", "0.8"]
    printed = CliRunner().invoke(app, [*words, *given])
    assert printed.exit_code == 0, printed.output
    result = json.loads(printed.stdout)
    assert result["choice"]["measure"] == "balanced_accuracy"
    assert result["abstention"]["wanted"] == 0.8
    assert "was chosen from the quick heads" in printed.stderr, "before the head is fitted"
    fitted = fit(
        collection,
        colours,
        backbone=small_backbone,
        head="auto",
        output=tmp_path,
        training=TrainOptions(class_weight="balanced", min_accuracy=0.8),
    )
    assert fitted.trained.head.card.choice == result["choice"]
    page = report(fitted.trained.head, colours, tmp_path / "again.html").read_text()
    assert "--class-weight balanced --min-accuracy 0.8" in page
    assert "was chosen from the quick heads" in fitted.delivery.report.read_text()
    first = CliRunner().invoke(app, [*words, "--name", "first"])
    assert first.exit_code == 0, first.output
    near = CliRunner().invoke(app, [*words, "--name", "near", "--start-from", "first"])
    assert near.exit_code == 0, near.output
    assert json.loads(near.stdout)["params"]["C_"] == pytest.approx(json.loads(first.stdout)["params"]["C_"])


def test_heads_kinds_explains_auto() -> None:
    shown = CliRunner().invoke(app, ["heads", "kinds"])
    assert shown.exit_code == 0, shown.output
    assert (
        shown.stdout.splitlines()[-1]
        == "auto is the best of logistic, ridge, lda, centroid on held-out training images."
    )
