"""Warnings about the data before a head is trained."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from penult.errors import InputError
from penult.pipeline.cli.app import app
from penult.pipeline.heads.estimators.lda import ShrunkenDiscriminant, leave_one_out_probabilities
from penult.pipeline.heads.recipe import Recipe
from penult.pipeline.progress import Silent
from penult.pipeline.reviewing import data_checks
from penult.pipeline.training.train import train
from penult.store import SpaceSpec, Store, key_of, open_store
from penult.store.tables.table import Table

N = 300


@pytest.fixture
def rows() -> tuple[NDArray[np.float32], dict[str, list[Any]]]:
    """Features of three separate classes without duplicates, with labels and splits."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(N, 200)).astype(np.float32)
    features[np.arange(N), np.arange(N) % 3] += 12
    labels = [("ants", "bees", "wasps")[i % 3] for i in range(N)]
    return features, {"label": labels, "split": ["test" if i % 5 == 0 else "train" for i in range(N)]}


def warnings_of(folder: Path, features: NDArray[np.float32], columns: dict[str, list[Any]]) -> tuple[str, ...]:
    store = open_store(folder / "store")
    saved(store, features, columns)
    return train(store, dataset="insects", head="ridge").reported


def saved(store: Store, features: NDArray[np.float32], columns: dict[str, Any]) -> None:
    n = len(features)
    keys = np.frombuffer(b"".join(key_of(f"{i}".encode()) for i in range(n)), np.uint8).reshape(n, 16)
    store.space(SpaceSpec("made", "a" * 64, "penultimate", features.shape[1])).add(keys, features)
    store.catalog.datasets.save("insects", Table(keys, tuple(f"photos/{i}.png" for i in range(n)), columns))


Rows = tuple[NDArray[np.float32], dict[str, list[Any]]]


def test_clean_data_gives_no_warning(tmp_path: Path, rows: Rows) -> None:
    assert warnings_of(tmp_path, *rows) == ()


def test_near_duplicates_across_splits_are_counted(tmp_path: Path, rows: Rows) -> None:
    features, columns = rows
    for tested, trained in ((0, 3), (15, 18), (30, 33)):
        features[tested] = features[trained] + np.random.default_rng(tested).normal(0, 0.05, 200)
    features[6] = features[9]  # both are trained on, which flatters nothing
    (warning,) = warnings_of(tmp_path, features, columns)
    assert warning.startswith("3 of 60 test images look nearly the same as training images")
    assert "'penult review'" in warning


def test_wrong_labels_are_reported_with_the_likely_class(tmp_path: Path, rows: Rows) -> None:
    features, columns = rows
    wrong = {1, 4, 7, 13, 16, 19, 22, 28}
    for row in wrong:
        columns["label"][row] = "wasps"
    (warning,) = warnings_of(tmp_path, features, columns)
    count = int(warning.partition(" of 240 training images look more like a class other than their label")[0])
    named = {int(row) for row in re.findall(r"(\d+)\.png is labelled wasps and looks like bees", warning)}
    assert 4 <= count <= 8
    assert len(named) == 3
    assert named <= wrong
    assert f"{count - 3} more" in warning


@pytest.mark.parametrize("n_classes", [2, 5])
def test_uninformative_features_give_no_label_warnings(tmp_path: Path, n_classes: int) -> None:
    rng = np.random.default_rng(0)
    labels = [f"class {label}" for label in rng.integers(0, n_classes, N)]
    columns = {"label": labels, "split": ["test" if i % 5 == 0 else "train" for i in range(N)]}
    assert warnings_of(tmp_path, rng.normal(size=(N, 100)).astype(np.float32), columns) == ()


def test_small_classes_and_unknown_test_labels_are_reported(tmp_path: Path, rows: Rows) -> None:
    features, columns = rows
    for row in range(3, 300, 3):
        if columns["split"][row] == "train" and row > 30:
            columns["label"][row] = "ants-" + str(row % 2)
    columns["label"][0] = "Ants"
    columns["label"][5] = "moths"
    warnings = warnings_of(tmp_path, features, columns)
    assert "1 class with fewer than 10 training images (ants: 8)" in warnings
    assert "2 test images with labels that no training image has (Ants: 1, perhaps ants, moths: 1)" in warnings


def test_groups_in_both_splits_are_counted(tmp_path: Path, rows: Rows) -> None:
    features, columns = rows
    columns["group"] = [f"nest-{i // 2}" for i in range(N)]
    warnings = warnings_of(tmp_path, features, columns)
    assert "60 groups in both training and test, with 60 of 60 test images" in warnings[0]


def test_slow_checks_are_skipped(tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    features, columns = rows
    features[0] = features[3]
    monkeypatch.setattr(data_checks, "MOST_WORK", 300 * 300 * 200 - 1)
    assert warnings_of(tmp_path, features, columns) == ()


def test_labels_of_very_many_classes_are_not_checked(
    tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, columns = rows
    for row in (1, 4, 7, 13, 16, 19, 22, 28):
        columns["label"][row] = "wasps"
    monkeypatch.setattr(data_checks, "MOST_CLASS_WORK", 240 * 200 * 3 - 1)
    assert warnings_of(tmp_path, features, columns) == ()


def test_warnings_come_before_the_fit(tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    features, columns = rows
    features[0] = features[3]
    store = open_store(tmp_path / "store")
    saved(store, features, columns)
    heard: list[str] = []

    class Listener(Silent):
        def say(self, line: str) -> None:
            heard.append(line)

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Recipe, "fit", stop)
    with pytest.raises(KeyboardInterrupt):
        train(store, dataset="insects", progress=Listener())
    assert ["1 of 60 test images looks nearly" in line for line in heard] == [True]


def test_a_warning_is_printed_once(tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    features, columns = rows
    features[0] = features[3]
    store = open_store(tmp_path / "store")
    saved(store, features, columns)
    monkeypatch.setattr("penult.pipeline.fit.deliver", lambda *_, **__: NoDelivery())
    ran = CliRunner().invoke(app, ["train", "insects", "--store", str(store.path)])
    assert ran.exit_code == 0, ran.output
    assert ran.stderr.count("looks nearly the same as training images") == 1
    assert ran.stdout.count("looks nearly the same as training images") == 0


class NoDelivery:
    report = model = "none"


def test_a_dataset_without_training_images_raises_an_error(tmp_path: Path, rows: Rows) -> None:
    features, columns = rows
    columns["split"] = ["test"] * N
    with pytest.raises(InputError, match="no labelled training images; its splits are test: 300"):
        warnings_of(tmp_path, features, columns)


def test_leave_one_out_probabilities_match_refitted_discriminants() -> None:
    features, labels = load_digits(n_class=3, return_X_y=True)
    X, y = features[:90, 10:30].astype(np.float32), labels[:90]
    found = leave_one_out_probabilities(X, y)
    shrinkage = ShrunkenDiscriminant().fit(X, y).shrinkage_
    alone = [
        ShrunkenDiscriminant(shrinkage).fit(np.delete(X, i, 0), np.delete(y, i)).predict_proba(X[i : i + 1])[0]
        for i in range(0, 90, 7)
    ]
    assert np.abs(found[::7] - alone).mean() < 0.02
    assert np.array_equal(found[::7].argmax(axis=1), np.argmax(alone, axis=1))
