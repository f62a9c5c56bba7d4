"""Advice: its evidence, its wording and its commands."""

import json
import shlex
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.imagenet_reference import rows_of
from click.testing import CliRunner
from sklearn.datasets import load_digits

import penult
from penult.exporters.backbone import Backbone
from penult.pipeline.advising.advice import Commands
from penult.pipeline.advising.advise import Advised, AdviseOptions, advise
from penult.pipeline.advising.imagenet_distance import SIZES, feature_distance, imagenet_distance, reference
from penult.pipeline.advising.learning_curve import SHARES, CurvePoint, extrapolate
from penult.pipeline.cli.app import app
from penult.pipeline.comparing.compare import compare
from penult.pipeline.fit import fit
from penult.pipeline.heads.numerics.basis import Basis
from penult.pipeline.heads.out_of_fold import HeadPlan, OutOfFold, predict_out_of_fold, training_parts
from penult.pipeline.progress import Silent
from penult.store import SpaceSpec, Store, key_of, open_store
from penult.store.tables.table import Table

TAPS = {"taps": [{"name": name} for name in ("penultimate", "stage1", "stage2")]}


def keys_of(n: int) -> Any:
    return np.frombuffer(b"".join(sorted(key_of(f"{i}".encode()) for i in range(n))), np.uint8).reshape(n, 16)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 digits of five classes: ``stage1`` contains their pixels, ``penultimate`` mostly noise."""
    features, labels = load_digits(n_class=5, return_X_y=True)
    features, labels = features[:600].astype(np.float32), labels[:600]
    keys = keys_of(600)
    opened = open_store(tmp_path_factory.mktemp("numbers") / "store")
    opened.space(SpaceSpec("digits", "a" * 64, "stage1", 64, card=TAPS)).add(keys, features)
    noise = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    noise[:, 0] += 2 * (labels == 0)
    opened.space(SpaceSpec("digits", "a" * 64, "penultimate", 8, card=TAPS)).add(keys, noise)
    splits = np.where(np.arange(600) % 4 == 0, "test", "train").tolist()
    columns = {"label": [str(y) for y in labels], "split": splits}
    opened.catalog.datasets.save("numbers", Table(keys, tuple(f"/x/{i}.png" for i in range(600)), columns))
    return opened.path


@pytest.fixture(scope="module")
def advised(numbers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the store that caches the results of two calls of `advise`."""
    path = shutil.copytree(numbers, tmp_path_factory.mktemp("advised") / "store")
    for features in ("penultimate", "stage1"):
        advise(path, dataset="numbers", features=features)
    return path


@pytest.fixture
def store(numbers: Path, tmp_path: Path) -> Store:
    return open_store(shutil.copytree(numbers, tmp_path / "store"))


@pytest.fixture
def warm_store(advised: Path, tmp_path: Path) -> Store:
    return open_store(shutil.copytree(advised, tmp_path / "store"))


def texts(found: Advised) -> str:
    return " ".join(one.text for one in found.advice)


def points_of(errors: Sequence[float], sizes: Sequence[int]) -> list[CurvePoint]:
    return [CurvePoint(n, 1 - error, 0, 1) for n, error in zip(sizes, errors, strict=True)]


def test_the_true_gain_lies_within_the_extrapolated_bounds() -> None:
    """Simulates curves of known power laws."""
    chance = np.random.default_rng(0)
    sizes, tested, inside = (80, 160, 320, 560, 800), 1_000, 0
    laws = [(floor, power) for floor in (0.0, 0.05, 0.1) for power in (0.3, 0.6, 1.0)] * 8
    for floor, power in laws:
        result = [floor + 0.25 * (n / 80) ** -power for n in (*sizes, 1_600)]
        measured = [chance.binomial(tested, error) / tested for error in result[:-1]]
        found = extrapolate(points_of(measured, sizes), tested)
        assert found is not None
        assert found.n == 1_600
        inside += found.gain.low <= result[-2] - result[-1] <= found.gain.high
    assert inside >= 0.9 * len(laws)


def test_a_flat_curve_has_no_gain_and_a_short_one_no_extrapolation() -> None:
    sizes = (80, 160, 320, 560, 800)
    flat = extrapolate(points_of([0.1] * 5, sizes), 5_000)
    assert flat is not None
    assert flat.gain.high < 0.005
    assert flat.is_sure
    thin = extrapolate(points_of([0.3, 0.25, 0.2], (8, 16, 32)), 40)
    assert thin is not None
    assert not thin.is_sure
    assert extrapolate(points_of([0.3, 0.2], (8, 16)), 40) is None


def test_parts_are_stratified_and_contain_the_smaller_ones() -> None:
    codes = np.repeat([0, 1, 2], [60, 30, 10])
    parts = [training_parts(codes, None, HeadPlan(share=share)) for share in SHARES]
    for fold in range(5):
        nested = [set(part[fold].tolist()) for part in parts]
        assert all(small < large for small, large in pairwise(nested))
        assert np.bincount(codes[parts[2][fold]]).tolist() == [19, 10, 3]
        assert np.bincount(codes[parts[0][fold]])[2] == 2, "a class of one row could not be chosen by"
    groups = np.repeat(np.arange(20), 5).astype(str)
    (part, *_) = training_parts(codes, groups, HeadPlan(share=0.5))
    split = [group for group in set(groups[part]) if (groups[part] == group).sum() < 5]
    assert len(split) <= 3, "at most one group of each class is cut"


def test_the_basis_of_all_rows_changes_no_prediction() -> None:
    X, y = load_digits(n_class=4, return_X_y=True)
    X = (X[:, X.std(axis=0) > 1] + np.random.default_rng(0).normal(size=(len(X), 1))).astype(np.float32)
    for share in (0.2, 1.0):
        plan = HeadPlan(params={"C": 0.01}, share=share)
        own = predict_out_of_fold(X, y, None, plan).probabilities
        np.testing.assert_allclose(
            predict_out_of_fold(X, y, None, plan, basis=Basis.of(X)).probabilities, own, atol=2e-3
        )


def test_better_features_are_found_and_the_command_trains_on_them(warm_store: Store) -> None:
    found = advise(warm_store, dataset="numbers")
    best, used = found.measured.taps.better, found.measured.taps.used
    assert best is not None
    assert used is not None
    assert "stage1" in best.features
    assert used.features == "digits:penultimate"
    first = found.advice[0]
    assert first.text.startswith("Train on ")
    table = compare(warm_store, dataset="numbers", heads=["lda"])
    assert table.computed == 0, "the comparison is that of compare"
    assert table.best.features == best.features
    words = shlex.split(first.command)
    assert words[:3] == ["penult", "train", "numbers"]
    trained = penult.train(warm_store, dataset="numbers", features=words[words.index("--features") + 1])
    assert trained.evaluation.accuracy.value > 0.9
    again = advise(warm_store, dataset="numbers", features=best.features)
    assert again.measured.taps.better is None
    assert "no features in the store are significantly better" in texts(again)


def test_missing_taps_are_listed_with_the_command(warm_store: Store) -> None:
    (one,) = (one for one in advise(warm_store, dataset="numbers").advice if "stage2" in one.text)
    assert "--taps penultimate,stage1,stage2" in one.command
    assert one.command.startswith("penult extract IMAGES --backbone ")


def test_advice_ignores_the_test_split_and_a_second_call_fits_no_part(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[HeadPlan] = []

    def counted(X: Any, codes: Any, groups: Any, plan: HeadPlan, **known: Any) -> OutOfFold:
        fitted.append(plan)
        return predict_out_of_fold(X, codes, groups, plan, **known)

    monkeypatch.setattr("penult.pipeline.comparing.held_out.predict_out_of_fold", counted)
    before = advise(store, dataset="numbers", features="stage1").to_json()
    assert [plan.share for plan in fitted if plan.head == "logistic"] == list(SHARES)
    n_fitted = len(fitted)
    table = store.catalog.datasets.load("numbers")
    assert table.splits is not None
    labels = np.array(table.labels)
    labels[table.splits == "test"] = "0"
    store.catalog.datasets.save("numbers", table.with_columns(label=labels.tolist()))
    after = advise(store, dataset="numbers", features="stage1").to_json()
    assert len(fitted) == n_fitted
    assert {**before, "version": 2} == json.loads(json.dumps(after)) | {"taps": before["taps"]}
    last = before["learning_curve"][-1]
    assert (last["n"], last["accuracy"] > 0.9) == (360, True)


def test_few_images_give_cautious_advice(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    labels = np.arange(40) % 2
    rows = (chance.normal(size=(40, 8)) + labels[:, None]).astype(np.float32)
    opened = open_store(tmp_path / "store")
    opened.space(SpaceSpec("b", "a" * 64, "penultimate", 8)).add(keys_of(40), rows)
    columns = {"label": labels.astype(str), "split": np.array(["train"] * 30 + ["test"] * 10)}
    opened.catalog.datasets.save("few", Table(keys_of(40), tuple(f"{i}.png" for i in range(40)), columns))
    found = advise(opened, dataset="few")
    assert found.measured.extrapolation is None
    assert found.measured.has_many is None
    assert found.measured.distance is None
    notes = " ".join(f"{one.text} {one.evidence}" for one in found.advice)
    assert "30 training images of 2 classes are too few for a learning curve" in notes
    assert "There is little evidence" in notes
    assert "It is not clear yet" in notes
    assert "The distance of the images from ImageNet is unknown" in notes


def test_a_network_without_headroom_is_kept(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    labels = np.arange(500) % 2
    rows = (chance.normal(size=(500, 8)) + 9 * labels[:, None]).astype(np.float32)
    opened = open_store(tmp_path / "store")
    opened.space(SpaceSpec("b", "a" * 64, "penultimate", 8)).add(keys_of(500), rows)
    columns = {"label": labels.astype(str), "split": np.array(["train"] * 400 + ["test"] * 100)}
    opened.catalog.datasets.save("easy", Table(keys_of(500), tuple(f"{i}.png" for i in range(500)), columns))
    last = advise(opened, dataset="easy", options=AdviseOptions(probe=None)).advice[-1]
    assert (last.text.partition(":")[0], last.command) == ("Keep the network", "")


def test_similar_photos_are_near_to_imagenet_and_others_far(tmp_path: Path) -> None:
    known = reference()
    mean, deviation = (np.array(known[name]) for name in ("mean", "deviation"))
    spec = SpaceSpec("efficientnet-lite0", known["fingerprint"], "penultimate", 1280)
    chance = np.random.default_rng(0)
    for name, rows, is_near in (
        ("alike", chance.normal(mean, deviation, (150, 1280)), True),
        ("other", chance.normal(mean + deviation, deviation / 2, (150, 1280)), False),
    ):
        space = open_store(tmp_path / name).space(spec)
        space.add(keys_of(150), rows.astype(np.float32))
        found = imagenet_distance([space], keys_of(150))
        assert found is not None
        assert (found.is_near, found.n, found.low <= found.distance <= found.high) == (is_near, 100, True)
        small = imagenet_distance([space], keys_of(150)[:60])
        assert small is not None
        assert small.n == 50
        assert imagenet_distance([space], keys_of(150)[: SIZES[-1] - 1]) is None
    other = open_store(tmp_path / "third").space(SpaceSpec("lite9", "b" * 64, "penultimate", 1280))
    assert imagenet_distance([other], keys_of(150)) is None


def test_the_reference_matches_the_photos(shared_data: Path, tmp_path: Path) -> None:
    known = reference()
    rows = rows_of(open_store(tmp_path / "store"), shared_data / "images" / "imagenet_100", Silent())
    assert len(rows) == known["photos"]
    assert feature_distance(rows, np.array(known["mean"]), np.array(known["deviation"])) < 1e-4


def test_commands_name_only_folders_below_the_current_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my photos" / "a").mkdir(parents=True)
    paths = tuple(str(tmp_path / "my photos" / name) for name in ("a/1.png", "b.png"))
    store.catalog.datasets.save("set", Table(keys_of(2), paths, {"label": np.array(["a", "b"])}))
    commands = Commands(store, store.catalog.datasets.load("set"))
    monkeypatch.chdir(tmp_path)
    assert commands.on_images("fit") == "penult fit 'my photos' --store store"
    monkeypatch.chdir(tmp_path / "my photos" / "a")
    assert commands.on_images("fit") == f"penult fit IMAGES --store {store.path}"


def test_the_advise_verb_prints_text_and_json(warm_store: Store) -> None:
    words = ["advise", "numbers", "--store", str(warm_store.path), "--features", "stage1"]
    shown = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    assert shown.startswith("numbers@1: 450 training images of 5 classes, features digits:stage1\n\n1. ")
    assert "Fine-tuning itself was not tried." in " ".join(shown.split())
    result = json.loads(CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False).stdout)
    assert [point["n"] for point in result["learning_curve"]][-1] == 360
    assert all(one["text"] in shown for one in result["advice"])
    assert result == json.loads(json.dumps(penult.advise(warm_store, dataset="numbers", features="stage1").to_json()))
    other = advise(warm_store, dataset="numbers", features="stage1", options=AdviseOptions(head="lda", most_rows=200))
    assert 190 < other.measured.curve.tested <= 200
    assert other.measured.n_train == 450


def test_the_report_of_a_fit_shows_the_curve_and_the_advice(
    tmp_path: Path, small_backbone: Backbone, draw_many: Path
) -> None:
    fitted = fit(draw_many, tmp_path / "store", backbone=small_backbone, output=tmp_path)
    text = fitted.delivery.report.read_text()
    assert 'id="curve"' in text
    assert 'id="advice"' in text
    assert "penult extract IMAGES --backbone" in text
    words = ["report", "photos-logistic", "--store", str(tmp_path / "store"), "-o", str(tmp_path / "again.html")]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert 'id="advice"' in (tmp_path / "again.html").read_text()
    assert CliRunner().invoke(app, [*words, "--no-advise"]).exit_code == 0
    text = (tmp_path / "again.html").read_text()
    assert 'id="advice"' not in text
    assert 'id="curve"' not in text


@pytest.fixture
def draw_many(tmp_path: Path) -> Path:
    """Ninety small images of three colours, many of them nearly grey."""
    from PIL import Image

    chance = np.random.default_rng(1)
    for channel, name in enumerate(("red", "green", "blue")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(30):
            pixels = chance.integers(0, 200, (36, 36, 3), dtype=np.uint8)
            pixels[..., channel] += chance.integers(0, 40, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"
