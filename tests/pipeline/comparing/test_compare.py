"""Comparison uses only training images, caches its results, and tests differences for significance."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_digits

from penult.errors import InputError, UnknownNameError
from penult.pipeline.cli.app import app
from penult.pipeline.comparing.compare import CompareOptions, compare
from penult.pipeline.evaluation.intervals import adjusted_p_values, paired_p_values
from penult.pipeline.heads.out_of_fold import OutOfFold, predict_out_of_fold
from penult.store import SpaceSpec, Store, key_of, open_store
from penult.store.tables.table import Table


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """360 digits of three classes, with one good tap and one of noise."""
    features, labels = load_digits(n_class=3, return_X_y=True)
    features, labels = features[:360].astype(np.float32), labels[:360]
    keys = np.frombuffer(b"".join(key_of(f"{i}".encode()) for i in range(360)), np.uint8).reshape(360, 16)
    opened = open_store(tmp_path / "store")
    opened.space(SpaceSpec("digits", "a" * 64, "penultimate", 64)).add(keys, features)
    noise = np.random.default_rng(0).normal(size=(360, 8)).astype(np.float32)
    opened.space(SpaceSpec("digits", "a" * 64, "stage1", 8)).add(keys, noise)
    splits = np.where(np.arange(360) % 4 == 0, "test", "train").tolist()
    columns = {"label": [str(y) for y in labels], "split": splits}
    opened.catalog.datasets.save("numbers", Table(keys, tuple(f"{i}.png" for i in range(360)), columns))
    return opened


def test_noise_is_significantly_worse_and_equal_tries_do_not_differ(store: Store) -> None:
    found = compare(store, dataset="numbers", heads=["ridge", "lda"])
    assert {one.features for one in found.tries} == {
        "digits:penultimate",
        "digits:stage1",
        "digits:penultimate+digits:stage1",
    }
    assert all(one.is_worse == (one.features == "digits:stage1") for one in found.tries)
    assert found.best.evaluation.accuracy.value > 0.97
    assert not found.has_winner
    assert "4 of 6 tries do not differ clearly" in found.sentence
    accuracies = [one.evaluation.accuracy.value for one in found.tries]
    assert accuracies == sorted(accuracies, reverse=True)


def test_a_significant_winner_is_reported(store: Store) -> None:
    found = compare(store, dataset="numbers", features=["stage1", "penultimate"], heads=["ridge"])
    assert found.has_winner
    assert found.best.features == "digits:penultimate"


def test_the_test_split_is_not_touched(store: Store) -> None:
    before = compare(store, dataset="numbers", heads=["ridge"])
    table = store.catalog.datasets.load("numbers")
    assert table.splits is not None
    labels = np.array(table.labels)
    labels[table.splits == "test"] = "0"
    store.catalog.datasets.save("numbers", table.with_columns(label=labels.tolist()))
    after = compare(store, dataset="numbers", heads=["ridge"])
    assert [one.to_json() for one in before.tries] == [one.to_json() for one in after.tries]
    tested = {key.tobytes() for key in table.keys[table.splits == "test"]}
    assert not tested & {key.tobytes() for key in before.best.evaluation.keys}


def test_a_second_run_computes_nothing_and_an_interrupted_one_continues(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[object] = []
    name = "penult.pipeline.comparing.held_out.predict_out_of_fold"

    def counted(*args: Any, **values: Any) -> OutOfFold:
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append(args)
        return predict_out_of_fold(*args, **values)

    monkeypatch.setattr(name, counted)
    with pytest.raises(KeyboardInterrupt):
        compare(store, dataset="numbers", heads=["ridge"])
    monkeypatch.setattr(name, predict_out_of_fold)
    assert compare(store, dataset="numbers", heads=["ridge"]).computed == 1
    again = compare(store, dataset="numbers", heads=["ridge"])
    assert again.computed == 0
    damaged = next((store.path / "comparisons").glob("*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    mended = compare(store, dataset="numbers", heads=["ridge"])
    assert mended.computed == 1
    assert [one.evaluation.summary() for one in mended.tries] == [one.evaluation.summary() for one in again.tries]


def test_labels_folds_and_weights_change_the_cache_entry(store: Store) -> None:
    assert compare(store, dataset="numbers", features=["penultimate"], heads=["ridge"]).computed == 1
    for options in (CompareOptions(n_folds=3), CompareOptions(seed=1), CompareOptions(class_weight="balanced")):
        assert compare(store, dataset="numbers", features=["penultimate"], heads=["ridge"], options=options).computed
    table = store.catalog.datasets.load("numbers")
    assert table.labels is not None
    store.catalog.datasets.save("numbers", table.with_columns(label=table.labels[::-1].tolist()))
    assert compare(store, dataset="numbers", features=["penultimate"], heads=["ridge"]).computed == 1


def test_groups_are_held_out_whole(store: Store) -> None:
    table = store.catalog.datasets.load("numbers")
    groups = [str(i // 10) for i in range(360)]
    store.catalog.datasets.save("numbers", table.with_columns(group=groups))
    assert compare(store, dataset="numbers", features=["penultimate"], heads=["ridge"]).computed == 1
    store.catalog.datasets.save("numbers", table.with_columns(group=["one"] * 360))
    with pytest.raises(InputError, match="one group"):
        compare(store, dataset="numbers", features=["penultimate"], heads=["ridge"])


def test_spaces_that_lack_rows_are_reported_and_left_out(store: Store) -> None:
    keys = store.catalog.datasets.load("numbers").keys[:50]
    store.space(SpaceSpec("other", "b" * 64, "penultimate", 3)).add(keys, np.ones((50, 3), np.float32))
    found = compare(store, dataset="numbers", heads=["ridge"])
    assert not any("other" in one.features for one in found.tries)
    assert any("other:penultimate" in note and "left out" in note for note in found.notes)


def test_an_unknown_head_raises_an_error_before_any_work(store: Store) -> None:
    with pytest.raises(UnknownNameError, match="logistc"):
        compare(store, dataset="numbers", heads=["ridge", "logistc"])
    assert not (store.path / "comparisons").exists()


def test_equal_tries_are_not_called_different() -> None:
    chance = np.random.default_rng(0)
    rounds = [paired_p_values(chance.random((8, 200)) < 0.8) for _ in range(60)]
    errors = sum(bool((table < 0.05).any()) for table in rounds)
    assert errors <= 6
    assert adjusted_p_values([]).size == 0


@pytest.fixture
def rare(tmp_path: Path) -> Store:
    """600 rows with a rare class that one tap separates better than the other."""
    rng = np.random.default_rng(0)
    labels = (rng.random(600) < 0.15).astype(int)
    keys = np.frombuffer(b"".join(key_of(f"{i}".encode()) for i in range(600)), np.uint8).reshape(600, 16)
    opened = open_store(tmp_path / "rare")
    weak = rng.normal(size=(600, 6)) + 1.0 * labels[:, None] * (np.arange(6) < 1)
    good = rng.normal(size=(600, 6)) + 2.2 * labels[:, None] * (np.arange(6) < 1)
    for tap, rows in (("stage1", weak), ("penultimate", good)):
        opened.space(SpaceSpec("made", "a" * 64, tap, 6)).add(keys, rows.astype(np.float32))
    names, splits = [("many", "rare")[y] for y in labels], ["train"] * 500 + ["test"] * 100
    table = Table(keys, tuple(f"{i}.png" for i in range(600)))
    opened.catalog.datasets.save("things", table.with_columns(label=names, split=splits))
    return opened


def test_balanced_weights_rank_by_balanced_accuracy(rare: Store) -> None:
    options = CompareOptions(class_weight="balanced")
    found = compare(rare, dataset="things", features=["stage1", "penultimate"], heads=["lda", "ridge"], options=options)
    figures = [one.figure.value for one in found.tries]
    assert found.measure == "balanced_accuracy"
    assert figures == sorted(figures, reverse=True)
    assert figures == pytest.approx([one.evaluation.balanced_accuracy for one in found.tries])
    assert all(one.figure.low < one.figure.value < one.figure.high for one in found.tries)
    assert {one.features for one in found.tries if one.is_worse} == {"made:stage1"}
    assert "a balanced accuracy of" in found.sentence
    plain = CompareOptions(class_weight="balanced", by="accuracy")
    other = compare(rare, dataset="things", features=["stage1", "penultimate"], heads=["lda", "ridge"], options=plain)
    assert (other.measure, other.computed) == ("accuracy", 0)
    assert [one.figure.value for one in other.tries] == [one.evaluation.accuracy.value for one in other.tries]


def test_log_loss_ranks_on_request(rare: Store) -> None:
    options = CompareOptions(by="log_loss")
    found = compare(rare, dataset="things", heads=["ridge", "centroid"], options=options)
    losses = [one.evaluation.log_loss for one in found.tries]
    assert losses == sorted(losses)
    assert [one.figure.value for one in found.tries] == pytest.approx(losses)
    assert found.tries[-1].is_worse
    with pytest.raises(InputError, match="one of accuracy, balanced_accuracy, log_loss"):
        compare(rare, dataset="things", options=CompareOptions(by="speed"))  # type: ignore[arg-type]  # the test's point


def test_equal_means_are_seldom_called_different() -> None:
    chance = np.random.default_rng(0)
    rounds = [paired_p_values(chance.gamma(0.5, size=(6, 300))) for _ in range(60)]
    assert sum(bool((table < 0.05).any()) for table in rounds) <= 6
    assert (paired_p_values(np.ones((2, 10))) == 1).all()


def test_the_table_names_its_metric(rare: Store) -> None:
    words = ["compare", "things", "--store", str(rare.path), "--heads", "ridge,lda"]
    shown = CliRunner().invoke(app, [*words, "--class-weight", "balanced"], catch_exceptions=False)
    assert "balanced accuracy" in shown.stdout
    result = CliRunner().invoke(app, [*words, "--by", "log-loss", "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["by"] == "log_loss"


@pytest.mark.parametrize("verb", ["compare", "advise"])
def test_numbers_can_be_classes(rare: Store, verb: str) -> None:
    table = rare.catalog.datasets.load("things")
    assert table.labels is not None
    rare.catalog.datasets.save("things", table.with_columns(code=[int(label == "rare") for label in table.labels]))
    words = [verb, "things", "--store", str(rare.path), "--target", "code"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code != 0
    done = CliRunner().invoke(app, [*words, "--task", "classification"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "held-out" in done.stdout


def test_the_verb_prints_a_table_json_and_csv(store: Store, tmp_path: Path) -> None:
    words = ["compare", "numbers", "--store", str(store.path), "--heads", "ridge,lda"]
    shown = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "digits:penultimate" in shown.stdout
    assert "do not differ clearly" in shown.stdout
    result = CliRunner().invoke(app, [*words, "--json", "--csv", str(tmp_path / "t.csv")], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert found["computed"] == 0
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["features"] for row in rows] == [one["features"] for one in found["tries"]]
