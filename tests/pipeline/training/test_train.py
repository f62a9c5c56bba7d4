"""Training from a store uses honest splits, gives the same head every time, and reports problems clearly."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from penult.errors import HeadError, InputError, MissingFileError, SpaceMismatchError, StoreWriteError, UnknownNameError
from penult.pipeline.heads import head_names
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.head_card import with_digest
from penult.pipeline.heads.recipe import Recipe
from penult.pipeline.training.options import TrainOptions
from penult.pipeline.training.train import train
from penult.store import SpaceSpec, Store, key_of, open_store
from penult.store.tables.table import Table

PRINT, OTHER = "a" * 64, "b" * 64


def keys_of(n: int, salt: str = "") -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(key_of(f"{salt}{i}".encode()) for i in range(n)), np.uint8).reshape(n, 16)


def add(
    store: Store,
    keys: NDArray[np.uint8],
    rows: NDArray[np.floating],
    *,
    tap: str = "penultimate",
    fingerprint: str = PRINT,
    backbone: str = "digits",
) -> None:
    store.space(SpaceSpec(backbone, fingerprint, tap, rows.shape[1])).add(keys, rows.astype(np.float32))


def save(store: Store, keys: NDArray[np.uint8], name: str = "numbers", **columns: Any) -> None:
    paths = tuple(f"{i}.png" for i in range(len(keys)))
    store.catalog.datasets.save(name, Table(keys, paths, columns))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """450 digits in two spaces, three classes, with a split."""
    features, labels = load_digits(n_class=3, return_X_y=True)
    features, labels = features[:450], labels[:450]
    opened = open_store(tmp_path / "store")
    keys = keys_of(450)
    add(opened, keys, features)
    add(opened, keys, features[:, ::4], tap="stage3")
    splits = np.where(np.arange(450) % 3 == 0, "test", "train")
    save(opened, keys, label=[("zero", "one", "two")[y] for y in labels], split=splits.tolist())
    return opened


def test_a_head_is_trained_evaluated_saved_and_listed(store: Store) -> None:
    result = train(store, dataset="numbers")
    card = result.head.card
    assert result.evaluation.accuracy.value > 0.97
    assert (card.name, card.kind, card.classes) == ("numbers-logistic", "logistic", ("one", "two", "zero"))
    assert (card.n_train, card.n_test, card.trained_on, card.evaluated_on) == (300, 150, ("train",), "test")
    assert card.dataset_version == 1
    assert card.params["C_"] > 0
    assert all("nearly the same as training images" in note for note in result.notes)
    assert store.catalog.heads.get("numbers-logistic") == json.loads(json.dumps(card.to_json()))
    assert result.test_paths[0] in {f"{i}.png" for i in range(0, 450, 3)}
    told = result.to_json()
    assert {
        "head",
        "classes",
        "n_train",
        "n_test",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "log_loss",
        "seconds",
    } <= told.keys()
    json.dumps(told, allow_nan=False)


def test_test_paths_belong_to_the_rows_of_the_evaluation(store: Store) -> None:
    result = train(store, dataset="numbers")
    dataset = store.catalog.datasets.load("numbers")
    path_of = {key.tobytes(): path for key, path in zip(dataset.keys, dataset.paths, strict=True)}
    assert [path_of[key.tobytes()] for key in result.evaluation.keys] == list(result.test_paths)


@pytest.mark.parametrize("kind", head_names())
def test_every_head_predicts_the_same_after_loading(store: Store, kind: str) -> None:
    result = train(store, dataset="numbers", head=kind)
    loaded = Head.load(store.heads_path / f"numbers-{kind}")
    features = loaded.gather(store, result.evaluation.keys)
    assert np.array_equal(loaded.predict_proba(features), result.evaluation.probabilities)
    assert loaded.card == result.head.card


def test_a_new_process_predicts_the_same(store: Store) -> None:
    result = train(store, dataset="numbers", head="lightgbm")
    code = (
        "import sys; from penult import Head, open_store\n"
        "store = open_store(sys.argv[1]); head = Head.load(store.heads_path / 'numbers-lightgbm')\n"
        "space = store.find_space('digits'); rows = space.load()\n"
        "print(head.predict_proba(rows.features).sum(axis=0).tolist())"
    )
    told = subprocess.run([sys.executable, "-c", code, str(store.path)], capture_output=True, text=True, check=True)
    everything = store.find_space("digits").load().features
    assert json.loads(told.stdout) == result.head.predict_proba(everything).sum(axis=0).tolist()


def test_the_same_call_gives_the_same_head(store: Store) -> None:
    first, second = train(store, dataset="numbers"), train(store, dataset="numbers", name="again")
    assert np.array_equal(first.evaluation.probabilities, second.evaluation.probabilities)
    assert first.head.card.params == second.head.card.params


def test_the_order_of_the_rows_does_not_matter(store: Store) -> None:
    dataset = store.catalog.datasets.load("numbers")
    order = np.random.default_rng(0).permutation(len(dataset))
    store.catalog.datasets.save("shuffled", dataset.select(order))
    first, second = train(store, dataset="numbers"), train(store, dataset="shuffled")
    assert np.array_equal(first.evaluation.probabilities, second.evaluation.probabilities)


def test_several_taps_are_concatenated(store: Store) -> None:
    result = train(store, dataset="numbers", features="penultimate,stage3")
    assert [space.tap for space in result.head.card.spaces] == ["penultimate", "stage3"]
    assert result.head.card.width == 80
    same = train(store, dataset="numbers", features="digits:penultimate+digits:stage3", name="same")
    assert np.array_equal(result.evaluation.probabilities, same.evaluation.probabilities)


def test_several_backbones_with_the_tap_are_listed(store: Store) -> None:
    dataset = store.catalog.datasets.load("numbers")
    add(store, dataset.keys, np.ones((450, 5)), backbone="other", fingerprint=OTHER)
    with pytest.raises(InputError, match=r"matches 2 spaces .*: digits:penultimate .*, other:penultimate"):
        train(store, dataset="numbers")
    assert train(store, dataset="numbers", backbone="digits").head.card.spaces[0].backbone == "digits"
    assert train(store, dataset="numbers", backbone=PRINT[:12]).head.card.spaces[0].backbone == "digits"


def test_val_is_the_test_split_where_there_is_no_other(store: Store) -> None:
    dataset = store.catalog.datasets.load("numbers")
    splits = ["val" if split == "test" else split for split in dataset.splits.tolist()]  # type: ignore[union-attr]  # it has splits
    store.catalog.datasets.save("numbers", dataset.with_columns(split=splits))
    result = train(store, dataset="numbers")
    assert (result.head.card.trained_on, result.head.card.evaluated_on) == (("train",), "val")


def test_val_is_trained_on_where_there_is_a_test_split(store: Store) -> None:
    dataset = store.catalog.datasets.load("numbers")
    splits = ["val" if 0 < i < 100 and i % 3 == 1 else split for i, split in enumerate(np.array(dataset.splits))]
    store.catalog.datasets.save("numbers", dataset.with_columns(split=splits))
    result = train(store, dataset="numbers")
    assert (result.head.card.trained_on, result.head.card.n_train) == (("train", "val"), 300)


def test_the_test_split_does_not_influence_the_head(store: Store) -> None:
    before = train(store, dataset="numbers")
    dataset = store.catalog.datasets.load("numbers")
    labels = np.array(dataset.labels)
    tested = np.array(dataset.splits) == "test"
    labels[tested] = np.random.default_rng(0).permutation(labels[tested])
    store.catalog.datasets.save("numbers", dataset.with_columns(label=labels.tolist()))
    after = train(store, dataset="numbers")
    assert np.array_equal(before.head.estimator.coef_, after.head.estimator.coef_)
    assert after.evaluation.accuracy.value < 0.6 < before.evaluation.accuracy.value


def relabelled(store: Store, **changes: Any) -> None:
    dataset = store.catalog.datasets.load("numbers")
    columns = {"label": dataset.labels.tolist(), "split": dataset.splits.tolist()}  # type: ignore[union-attr]  # it has both
    for name, change in changes.items():
        columns[name] = [change(i, value) for i, value in enumerate(columns[name])]
    store.catalog.datasets.save("numbers", dataset.with_columns(columns))


def test_images_without_a_label_are_left_out_and_counted(store: Store) -> None:
    relabelled(store, label=lambda i, label: None if i < 30 else label)
    result = train(store, dataset="numbers")
    assert result.head.card.n_train == 280
    assert result.notes[0] == "left out because of no label: 30 images"


def test_an_image_in_both_splits_is_only_tested(store: Store) -> None:
    dataset = store.catalog.datasets.load("numbers")
    doubled = dataset.select(np.array([*range(450), 0, 3, 6]))
    splits = [*dataset.splits.tolist(), "train", "train", "train"]  # type: ignore[union-attr]  # it has splits
    store.catalog.datasets.save("numbers", doubled.with_columns(split=splits))
    result = train(store, dataset="numbers")
    assert result.notes[0] == "only tested, though also in a training split: 3 images"
    assert (result.head.card.n_train, result.head.card.n_test) == (300, 150)


def test_an_image_with_two_labels_is_left_out(store: Store) -> None:
    dataset = store.catalog.datasets.load("numbers")
    doubled = dataset.select(np.array([*range(450), 1]))
    labels = [*dataset.labels.tolist(), "other"]  # type: ignore[union-attr]  # it has labels
    store.catalog.datasets.save("numbers", doubled.with_columns(label=labels))
    assert "left out because of several labels: 1 image" in train(store, dataset="numbers").notes


def test_a_test_class_without_training_images_is_reported(store: Store) -> None:
    relabelled(store, label=lambda i, label: "three" if i in (0, 3) else label)
    result = train(store, dataset="numbers")
    assert result.head.card.classes == ("one", "two", "zero")
    assert "2 of 150 images have a label that is not in the training set (three: 2)" in result.notes[-1]
    assert len(result.test_paths) == result.evaluation.n == 148


def test_groups_in_both_splits_are_reported_and_held_out_whole(store: Store) -> None:
    dataset = store.catalog.datasets.load("numbers")
    store.catalog.datasets.save("numbers", dataset.with_columns(group=[f"g{i // 10}" for i in range(450)]))
    assert (
        "45 groups in both training and test, with 150 of 150 test images" in train(store, dataset="numbers").notes[0]
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": lambda i, label: "zero"}, "have only one class \\(zero: 300\\)"),
        (
            {"label": lambda i, label: "rare" if i == 1 else label},
            "In 'numbers', these classes have only one training image: rare",
        ),
        ({"split": lambda i, split: "train"}, r"no test images; its splits are train: 450"),
        (
            {"label": lambda i, label: None if i % 3 == 0 else label},
            "has no image that can be tested",
        ),
    ],
)
def test_data_that_cannot_be_trained_raises(store: Store, changes: dict[str, Any], said: str) -> None:
    relabelled(store, **changes)
    with pytest.raises(InputError, match=said):
        train(store, dataset="numbers")


def test_datasets_without_labels_or_splits_raise(store: Store) -> None:
    save(store, keys_of(4), "bare")
    with pytest.raises(InputError, match="has no labels"):
        train(store, dataset="bare")
    save(store, keys_of(4), "unsplit", label=["a", "b", "a", "b"])
    with pytest.raises(InputError, match="has no splits"):
        train(store, dataset="unsplit")


def test_the_error_for_missing_features_names_the_command_that_extracts_them(store: Store) -> None:
    keys = np.concatenate([keys_of(8), keys_of(4, "new")])
    save(store, keys, "more", label=["a", "b"] * 6, split=["train"] * 8 + ["test"] * 4)
    with pytest.raises(
        InputError,
        match=r"4 of 12 images have no features in digits:penultimate.*penult extract IMAGES --backbone digits",
    ):
        train(store, dataset="more")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"dataset": "nunbers"}, "No dataset is called 'nunbers'"),
        ({"head": "logistc"}, "did you mean 'logistic'"),
        ({"features": "stage9"}, r"no features called 'stage9'.*digits:penultimate, digits:stage3"),
        ({"features": "penultimate", "backbone": "resnet"}, "no features called 'penultimate' of resnet"),
    ],
)
def test_unknown_names_are_answered_with_suggestions(store: Store, words: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownNameError, match=said):
        train(store, **{"dataset": "numbers", **words})


@pytest.mark.parametrize(
    "words", [{"features": ","}, {"features": "stage3,stage3"}, {"name": "../up"}, {"name": ".hidden"}]
)
def test_invalid_names_raise(store: Store, words: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        train(store, **{"dataset": "numbers", **words})


def test_parameters_and_weights_reach_the_head(store: Store) -> None:
    options = TrainOptions(params={"C": 0.25}, class_weight="balanced", seed=3)
    result = train(store, dataset="numbers", options=options)
    assert result.head.estimator.C == 0.25
    assert result.head.card.params == {"C": 0.25, "C_": 0.25, "class_weight": "balanced"}


def test_a_head_refuses_other_spaces(store: Store) -> None:
    head = train(store, dataset="numbers").head
    own, stage = store.find_space("digits").spec, store.find_space("digits", "stage3").spec
    head.check_spaces([own])
    for others in ([stage], [own, stage], [SpaceSpec("digits", OTHER, "penultimate", 64)]):
        with pytest.raises(SpaceMismatchError, match=PRINT):
            head.check_spaces(others)
    with pytest.raises(SpaceMismatchError, match=f"{OTHER}.*Expected: digits:penultimate .float16, {PRINT}"):
        head.check_spaces([SpaceSpec("digits", OTHER, "penultimate", 64)])
    with pytest.raises(SpaceMismatchError, match=r"\(3, 65\)"):
        head.predict_proba(np.zeros((3, 65), np.float32))


def test_no_head_is_fitted_where_none_can_be_saved(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.catalog._database, "readonly", True)
    monkeypatch.setattr(Recipe, "fit", lambda *_, **__: pytest.fail("it was fitted"))
    with pytest.raises(StoreWriteError, match=r"A head cannot be saved in .*copy the store"):
        train(store, dataset="numbers")
    with pytest.raises(StoreWriteError, match=r"A head cannot be saved in .*copy the store"):
        train(store, dataset="numbers", options=TrainOptions(target="label", task="regression"))


def test_a_head_of_another_store_finds_no_features(store: Store, tmp_path: Path) -> None:
    head = train(store, dataset="numbers").head
    with pytest.raises(SpaceMismatchError, match="has no rows of digits@aaaaaaaaaaaa:penultimate"):
        head.gather(open_store(tmp_path / "empty"), keys_of(2))


def test_predictions_of_no_rows_are_empty(store: Store) -> None:
    head = train(store, dataset="numbers").head
    assert head.predict_proba(np.zeros((0, 64), np.float32)).shape == (0, 3)
    rows = store.find_space("digits").load().features
    assert set(head.predict(rows)) == {"zero", "one", "two"}
    linear = head.linear()
    assert linear is not None
    scores = rows @ linear[0].T + linear[1]
    assert np.array_equal(scores.argmax(axis=1), head.predict_proba(rows).argmax(axis=1))
    assert train(store, dataset="numbers", head="knn").head.linear() is None


def test_training_again_replaces_the_head_and_leaves_other_files(store: Store) -> None:
    folder = store.heads_path / "numbers-logistic"
    train(store, dataset="numbers")
    (folder / "report.html").write_text("a report")
    train(store, dataset="numbers", options=TrainOptions(params={"C": 1.0}))
    assert np.isclose(Head.load(folder).estimator.C_, 1.0)
    assert len(list(folder.glob("*.skops"))) == 1
    assert (folder / "report.html").exists()
    assert not list(folder.glob(".*"))


def broken(folder: Path, how: str) -> None:
    card, estimator = folder / "card.json", next(folder.glob("*.skops"))
    content = json.loads(card.read_text())
    if how == "flipped":
        data = bytearray(estimator.read_bytes())
        data[len(data) // 2] ^= 1
        estimator.write_bytes(data)
    elif how == "cut":
        card.write_text(card.read_text()[:100])
    elif how == "gone":
        estimator.unlink()
    elif how == "no entry":
        del content["sha256"]
        card.write_text(json.dumps(with_digest({**content, "estimator": None})))
    elif how == "newer":
        card.write_text(json.dumps({**content, "version": {"major": 2, "minor": 0}}))
    elif how == "foreign":
        card.write_text(json.dumps({"format": "something"}))
    elif how == "poor":
        del content["spaces"]
        card.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("flipped", "is damaged: its SHA-256"),
        ("cut", "cannot be read"),
        ("gone", "cannot be read"),
        ("no entry", "names no estimator"),
        ("newer", r"version 2.*Expected: version 1.*upgrade penult"),
        ("foreign", "is not a head"),
        ("poor", "card of .* is damaged"),
    ],
)
def test_damaged_and_foreign_heads_raise(store: Store, how: str, said: str) -> None:
    train(store, dataset="numbers")
    folder = store.heads_path / "numbers-logistic"
    broken(folder, how)
    with pytest.raises(HeadError, match=said):
        Head.load(folder)


def test_a_missing_head_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="There is no head at"):
        Head.load(tmp_path)


class Stranger:
    """A class that no head file may create."""


def test_untrusted_types_are_not_created(store: Store) -> None:
    head = train(store, dataset="numbers").head
    head.estimator.colour = Stranger()
    folder = store.heads_path / "strange"
    head.save(folder)
    with pytest.raises(HeadError, match=r"not trusted: .*Stranger"):
        Head.load(folder)


def test_every_changed_byte_of_a_card_is_detected(store: Store) -> None:
    train(store, dataset="numbers")
    path = store.heads_path / "numbers-logistic" / "card.json"
    whole, card = path.read_bytes(), Head.load(path.parent).card
    for place in range(0, len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 1 << place % 7
        path.write_bytes(data)
        try:
            found = Head.load(path.parent).card
        except HeadError:
            continue
        assert found == card


def test_a_later_minor_version_is_read(store: Store) -> None:
    train(store, dataset="numbers")
    card = store.heads_path / "numbers-logistic" / "card.json"
    content = json.loads(card.read_text())
    del content["sha256"]
    later = {**content, "version": {"major": 1, "minor": 7}, "mood": "good"}
    card.write_text(json.dumps(with_digest(later)))
    assert Head.load(card.parent).card.name == "numbers-logistic"
