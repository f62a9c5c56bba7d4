"""Heads for numbers and tags are trained, evaluated with intervals, saved, loaded and used to predict."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, f1_score, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from penult.errors import HeadError, InputError, UnknownNameError
from penult.exporters import Backbone
from penult.pipeline.cli.train import train as train_verb
from penult.pipeline.evaluation.values import NumberEvaluation, TagEvaluation
from penult.pipeline.extraction.extract import extract
from penult.pipeline.heads.estimators.one_per_tag import PerTagClassifier
from penult.pipeline.heads.estimators.ridge import RidgeRegressor
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.logistic.path import LogisticPath
from penult.pipeline.heads.registry import head_names
from penult.pipeline.models.bundle import bundle
from penult.pipeline.models.predict import Prediction, predict
from penult.pipeline.progress import Silent
from penult.pipeline.samples.targets import target_of
from penult.pipeline.training.options import TrainOptions
from penult.pipeline.training.train import train
from penult.store import SpaceSpec, Store, key_of, open_store
from penult.store.tables.table import Table


def keys_of(n: int) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(key_of(str(i).encode()) for i in range(n)), np.uint8).reshape(n, 16)


@pytest.fixture(scope="module")
def table() -> tuple[NDArray[np.float32], Table]:
    """600 digits: the number is how much ink a digit has, and the tags describe its shape."""
    features, digits = load_digits(return_X_y=True)
    features, digits = features[:600].astype(np.float32), digits[:600]
    ink = features.sum(axis=1) / 10 + np.random.default_rng(0).normal(size=600)
    is_even, has_loop = digits % 2 == 0, np.isin(digits, (0, 6, 8, 9))
    tags = ["|".join(name for name, on in (("even", e), ("loop", o)) if on) for e, o in zip(is_even, has_loop)]  # noqa: B905 - of one length
    columns: dict[str, Any] = {
        "label": digits.tolist(),
        "split": ["test" if i % 3 == 0 else "train" for i in range(600)],
        "ink": ink.tolist(),
        "shape-even": is_even,
        "shape-loop": has_loop,
        "tags": tags,
        "maker": ["left" if i % 2 else "right" for i in range(600)],
    }
    return features, Table(keys_of(600), tuple(f"{i}.png" for i in range(600)), columns)


@pytest.fixture
def store(tmp_path: Path, table: tuple[NDArray[np.float32], Table]) -> Store:
    opened = open_store(tmp_path / "store")
    opened.space(SpaceSpec("digits", "a" * 64, "penultimate", 64)).add(table[1].keys, table[0])
    opened.catalog.datasets.save("things", table[1])
    return opened


@pytest.mark.parametrize("kind", head_names("regression"))
def test_every_head_for_numbers_is_trained_saved_and_loaded(store: Store, kind: str) -> None:
    trained = train(store, dataset="things", head=kind, options=TrainOptions(target="ink"))
    assert isinstance(trained.evaluation, NumberEvaluation)
    found = trained.evaluation
    assert found.r2.value > {"ridge": 0.9, "svr": 0.85, "lightgbm": 0.6}[kind]
    assert found.r2.low < found.r2.value < found.r2.high
    assert found.r2.value == pytest.approx(r2_score(found.true, found.predicted))
    assert found.mae.value < found.usual_mae * 0.6
    card = store.catalog.heads.get(f"things-ink-{kind}")
    assert (card["task"], card["target"], card["classes"]) == ("regression", ["ink"], [])
    loaded = Head.load(store.heads_path / f"things-ink-{kind}")
    features = loaded.gather(store, found.keys).astype(np.float64)
    assert np.array_equal(loaded.predict(features), found.predicted)
    with pytest.raises(HeadError, match="predicts a number, not classes"):
        loaded.predict_proba(features)


@pytest.mark.parametrize("kind", head_names("multilabel"))
@pytest.mark.parametrize("target", ["shape-even,shape-loop", "shape-*"])
def test_every_head_for_tags_is_trained_saved_and_loaded(store: Store, kind: str, target: str) -> None:
    trained = train(store, dataset="things", head=kind, name="tags", options=TrainOptions(target=target))
    found = trained.evaluation
    assert isinstance(found, TagEvaluation)
    assert found.names == ("shape-even", "shape-loop")
    assert found.mean_average_precision.value > 0.93
    expected = np.mean([average_precision_score(found.true[:, i], found.probabilities[:, i]) for i in (0, 1)])
    assert found.mean_average_precision.value == pytest.approx(expected)
    assert found.micro_f1.value == pytest.approx(f1_score(found.true, found.probabilities > 0.5, average="micro"))
    assert found.macro_f1.value == pytest.approx(f1_score(found.true, found.probabilities > 0.5, average="macro"))
    assert found.micro_f1.low < found.micro_f1.value < found.micro_f1.high
    loaded = Head.load(store.heads_path / "tags")
    features = loaded.gather(store, found.keys)
    assert np.allclose(loaded.predict_proba(features), found.probabilities, atol=1e-5)
    said = loaded.predict(features[:20])
    assert all(set(tags) <= {"shape-even", "shape-loop"} for tags in said)


def test_tags_in_one_cell_are_read_for_the_task_multilabel(store: Store) -> None:
    trained = train(store, dataset="things", options=TrainOptions(target="tags", task="multilabel"))
    columns = train(store, dataset="things", options=TrainOptions(target="shape-even,shape-loop"))
    assert trained.head.card.classes == ("even", "loop")
    assert np.array_equal(trained.evaluation.true, columns.evaluation.true)


def test_classes_can_be_in_any_column(store: Store) -> None:
    trained = train(store, dataset="things", name="makers", options=TrainOptions(target="maker"))
    assert trained.head.card.classes == ("left", "right")
    assert trained.head.card.target == ("maker",)
    digits = train(store, dataset="things", options=TrainOptions(target="label", task="classification"))
    assert len(digits.head.card.classes) == 10


class Heard(Silent):
    """A progress that records what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize("target", ["ink", "shape-*"])
def test_groups_and_near_copies_in_both_splits_are_reported_before_the_fit(
    tmp_path: Path, table: tuple[NDArray[np.float32], Table], target: str
) -> None:
    features, plain = table[0].copy(), table[1]
    features[[0, 3]] = features[[1, 2]] + 0.01
    opened = open_store(tmp_path / "store")
    opened.space(SpaceSpec("digits", "a" * 64, "penultimate", 64)).add(plain.keys, features)
    groups = ["same" if row in (6, 7) else f"alone-{row}" for row in range(len(features))]
    opened.catalog.datasets.save("things", plain.with_columns(group=groups))
    heard = Heard()
    trained = train(opened, dataset="things", progress=heard, options=TrainOptions(target=target))
    assert heard.lines == list(trained.reported)
    told = " ".join(trained.head.card.notes)
    assert "1 group in both training and test, with 1 of 200 test images" in told
    count = int(re.search(r"(\d+) of 200 test images look nearly the same as training images", told)[1])  # type: ignore[index]  # else the test fails
    assert 2 <= count < 30


def test_a_new_process_predicts_the_same_numbers(store: Store) -> None:
    trained = train(store, dataset="things", options=TrainOptions(target="ink"))
    code = (
        "import sys; from penult import Head, open_store\n"
        "store = open_store(sys.argv[1]); head = Head.load(store.heads_path / 'things-ink-ridge')\n"
        "print(head.predict(store.find_space('digits').load().features).sum())"
    )
    told = subprocess.run([sys.executable, "-c", code, str(store.path)], capture_output=True, text=True, check=True)
    assert float(told.stdout) == float(trained.head.predict(store.find_space("digits").load().features).sum())


def test_ridge_for_numbers_is_equal_to_scikit_learns_ridgecv(table: tuple[NDArray[np.float32], Table]) -> None:
    X, y = table[0][:120, 2:30], np.asarray(table[1].columns["ink"][:120], np.float64)
    Z = StandardScaler().fit_transform(X.astype(float))
    head = RidgeRegressor(alpha=5.0).fit(X, y)
    assert np.allclose(head.predict(X.astype(float)), Ridge(alpha=5.0).fit(Z, y).predict(Z), atol=1e-5)
    left_out = []
    for row in range(120):
        rest = np.arange(120) != row
        left_out.append(Ridge(alpha=5.0).fit(Z[rest], y[rest]).predict(Z[row : row + 1])[0] - y[row])
    assert head.path_[0, 1] == pytest.approx(np.sqrt(np.mean(np.square(left_out))), rel=1e-3)
    chosen = RidgeRegressor().fit(X, y)
    assert chosen.path_[:, 1].min() == chosen.path_[np.isclose(chosen.path_[:, 0], chosen.alpha_), 1]


def test_each_tag_has_its_own_classifier(table: tuple[NDArray[np.float32], Table]) -> None:
    X = table[0][:300]
    Y = np.column_stack([table[1].columns[name][:300] for name in ("shape-even", "shape-loop")]).astype(int)
    head = PerTagClassifier(LogisticPath(C=0.1)).fit(X, Y)
    for place in (0, 1):
        plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-8, max_iter=5000)).fit(X, Y[:, place])
        assert np.allclose(head.predict_proba(X)[:, place], plain.predict_proba(X)[:, 1], atol=5e-3)


def test_rows_with_no_value_or_two_values_are_left_out(store: Store) -> None:
    dataset = store.catalog.datasets.load("things")
    ink = np.array(dataset.columns["ink"])
    ink[1:31:3] = np.nan
    rows = np.array([*range(600), 0, 5])
    ink = np.append(ink, [ink[0], ink[5] + 1])
    splits = [*np.array(dataset.splits), "train", "train"]
    store.catalog.datasets.save("torn", dataset.select(rows).with_columns(ink=ink, split=splits))
    trained = train(store, dataset="torn", options=TrainOptions(target="ink"))
    *plain, alike = trained.notes
    assert "look nearly the same as training images" in alike
    assert plain == [
        "left out because of no value for ink: 10 images",
        "left out because of several values: 1 image",
        "only tested, though also in a training split: 1 image",
    ]
    assert (trained.head.card.n_train, trained.head.card.n_test) == (389, 200)


@pytest.mark.parametrize(
    ("target", "task", "said"),
    [
        ("inc", None, "did you mean 'ink'"),
        ("shape-even,ink", None, "'ink' contains float"),
        ("maker", "regression", "'maker' contains text"),
        ("ink,label", "regression", "one column"),
        ("nothing-*", None, "No column is called"),
    ],
)
def test_invalid_targets_raise(table: tuple[NDArray[np.float32], Table], target: str, task: Any, said: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=said):
        target_of(table[1], target, task)


def test_a_head_of_another_task_raises(store: Store) -> None:
    with pytest.raises(InputError, match="the head svc is for classification, and this is regression"):
        train(store, dataset="things", head="svc", options=TrainOptions(target="ink"))
    with pytest.raises(InputError, match="GaussianNB is a classifier"):
        train(store, dataset="things", head="sklearn.naive_bayes:GaussianNB", options=TrainOptions(target="ink"))
    with pytest.raises(InputError, match="Ridge is a regressor"):
        train(store, dataset="things", head=Ridge())


def test_any_scikit_learn_pipeline_can_be_a_head(store: Store) -> None:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    trained = train(store, dataset="things", head=pipeline, options=TrainOptions(params={"C": 0.01}))
    assert trained.head.card.kind == "sklearn:Pipeline"
    assert trained.head.estimator.named_steps["logisticregression"].C == 0.01
    assert trained.evaluation.accuracy.value > 0.9
    loaded = Head.load(store.heads_path / "things-sklearn.Pipeline")
    assert np.array_equal(loaded.predict(loaded.gather(store, keys_of(9))), trained.head.predict(table_rows(store)))
    numbers = train(store, dataset="things", head="sklearn.linear_model:Lasso", options=TrainOptions(target="ink"))
    assert numbers.evaluation.n == 200


def table_rows(store: Store) -> NDArray[np.float32]:
    return store.find_space("digits").gather(keys_of(9))


def test_heads_without_classes_are_not_bundled(store: Store, tmp_path: Path) -> None:
    trained = train(store, dataset="things", options=TrainOptions(target="ink"))
    with pytest.raises(HeadError, match="is for regression of ink, and a bundled model needs classes"):
        bundle(trained.head, None, tmp_path / "m.onnx")  # type: ignore[arg-type]  # it is not looked at


def test_predictions_of_numbers_and_tags_have_a_readable_repr() -> None:
    number = Prediction.of("a.png", np.array([12.5]), (), task="regression")
    assert (number.label, number.to_json()) == ("12.5", {"path": "a.png", "value": 12.5})
    tags = Prediction.of("a.png", np.array([0.9, 0.2, 0.7]), ("x", "y", "z"), task="multilabel", top=2)
    assert (tags.label, tags.probabilities, tags.confidence) == ("x|z", {"x": 0.9, "z": 0.7}, None)


def test_the_verb_trains_on_any_column(store: Store) -> None:
    def run(*words: str) -> Any:
        told = CliRunner().invoke(train_verb, ["things", "--store", str(store.path), "--json", *words])
        assert told.exit_code == 0, told.output
        return json.loads(told.stdout)

    assert run("--target", "ink")["r2"]["value"] > 0.9
    assert run("--target", "shape-*", "--param", "estimator__C=0.1")["params"] == {"estimator__C": 0.1}
    assert run("--target", "label", "--task", "regression", "--head", "svr")["kind"] == "svr"


def test_predict_returns_numbers_and_tags_of_images(small_backbone: Backbone, collection: Path, tmp_path: Path) -> None:
    opened = open_store(tmp_path / "photos-store")
    extract(collection, opened, backbone=small_backbone)
    files = opened.catalog.files.table()
    heights = [40 + int(Path(path).stem) for path in files.paths]
    names = [Path(path).parent.name for path in files.paths]
    split = ["test" if i % 3 == 0 else "train" for i in range(len(files))]
    columns: dict[str, Any] = {
        "height": heights,
        "is-red": [name == "red" for name in names],
        "is-blue": [n == "blue" for n in names],
    }
    opened.catalog.datasets.save("photos", files.with_columns({**columns, "split": split}))
    number = train(opened, dataset="photos", name="height", options=TrainOptions(target="height"))
    train(opened, dataset="photos", name="tags", options=TrainOptions(target="is-*"))
    told = {p.path: p for p in predict("height", collection, store=opened)}
    rows = number.head.gather(opened, files.keys)
    for path, expected in zip(files.paths, number.head.predict(rows), strict=True):
        assert told[path].value == pytest.approx(float(expected))
    said = {
        Path(p.path).parent.name: p.label
        for p in predict(Head.load(opened.heads_path / "tags"), collection, store=opened)
    }
    assert said == {"red": "is-red", "green": "", "blue": "is-blue"}
