"""Review finds injected errors, near duplicates and leaks; corrections can be imported."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import penult
from penult.pipeline.cli.app import app
from penult.pipeline.extraction.extract import find_images
from penult.pipeline.fit import save_dataset
from penult.pipeline.heads.estimators.lda import leave_one_out_probabilities
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.progress import Silent
from penult.pipeline.reviewing.labels import find_label_issues, select_to_label
from penult.pipeline.reviewing.neighbours import Neighbours, near_duplicates, nearest, outliers
from penult.pipeline.reviewing.review import ReviewItem, ReviewOptions, review
from penult.pipeline.samples.relabelling import import_labels
from penult.store import SpaceSpec, Store, key_of, open_store
from penult.store.catalog.files import SeenFile
from penult.store.tables.table import Table

COPY, FAR = 399, 398
"""The near duplicate of row 0, and the outlier."""


def keys_of(n: int) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(key_of(f"{i}".encode()) for i in range(n)), np.uint8).reshape(n, 16)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """400 digits: 20 have a wrong label, 20 have none, two are near duplicates in two splits, one is an outlier."""
    features, numbers = load_digits(n_class=4, return_X_y=True)
    features, labels = features[:400].astype(np.float32), [str(y) for y in numbers[:400]]
    features[COPY] = features[0] + 0.01
    features[FAR] = np.random.default_rng(0).normal(8, 60, 64)
    labels[COPY] = labels[0]
    keys = keys_of(400)
    opened = open_store(tmp_path / "store")
    opened.space(SpaceSpec("digits", "a" * 64, "penultimate", 64)).add(keys, features)
    given = [str((int(label) + 1) % 4) if row in WRONG else label for row, label in enumerate(labels)]
    column = [None if row in BLANK else label for row, label in enumerate(given)]
    splits = ["test" if row % 5 == 4 else "train" for row in range(400)]
    paths = tuple(f"/photos/{row}.png" for row in range(400))
    opened.catalog.files.record([SeenFile(path, 1, 1, key.tobytes()) for path, key in zip(paths, keys, strict=True)])
    opened.catalog.datasets.save("numbers", Table(keys, paths).with_columns(label=column, split=splits))
    return opened


WRONG = frozenset(range(3, 390, 20))
BLANK = frozenset(range(7, 390, 20))


def rows_of(found: Sequence[ReviewItem]) -> set[int]:
    return {one.row for one in found}


def test_most_wrong_labels_are_found_and_few_correct_ones_listed(store: Store) -> None:
    doubted = rows_of(review(store, dataset="numbers").of("label")) - {FAR}
    assert len(doubted & WRONG) / len(WRONG) > 0.7
    assert len(doubted & WRONG) / len(doubted) > 0.8


def test_the_correct_class_is_suggested(store: Store) -> None:
    truth = load_digits(n_class=4)["target"]
    suggested = [one for one in review(store, dataset="numbers").of("label") if one.row in WRONG]
    right = [one.suggested == str(truth[one.row]) for one in suggested]
    assert np.mean(right) > 0.9


def test_a_duplicate_in_another_split_is_a_leak_and_noise_an_outlier(store: Store) -> None:
    found = review(store, dataset="numbers")
    assert {0, COPY} in [
        {one.row for one in found.of("leak") if one.group == number}
        for number in {one.group for one in found.of("leak")}
    ]
    assert FAR in rows_of(found.of("outlier"))
    assert len(found.of("outlier")) < 40


def test_the_images_to_label_next_have_no_label(store: Store) -> None:
    asked = review(store, dataset="numbers").of("label next")
    assert rows_of(asked) == BLANK
    assert all(0 <= one.score <= 1 and one.suggested for one in asked)


def test_a_corrected_table_becomes_the_next_version(store: Store, tmp_path: Path) -> None:
    table = tmp_path / "review.csv"
    words = ["--store", str(store.path)]
    shown = CliRunner().invoke(app, ["review", "numbers", *words, "--csv", str(table)], catch_exceptions=False)
    assert "penult dataset import" in shown.stdout
    lines = table.read_text().splitlines()
    names = lines[0].split(",")
    place, path = names.index("label"), names.index("path")
    lines[1:] = [
        ",".join(
            "corrected" if at == place and cells[path] == "/photos/3.png" else cell for at, cell in enumerate(cells)
        )
        for cells in (line.split(",") for line in lines[1:])
    ]
    table.write_text("\n".join(lines) + "\n")
    before = store.catalog.datasets.load("numbers")
    CliRunner().invoke(app, ["dataset", "import", str(table), "--name", "numbers", *words], catch_exceptions=False)
    after = store.catalog.datasets.load("numbers")
    assert (after.version, len(after)) == (2, len(before))
    changed = store.catalog.datasets.diff("numbers", 1, 2).changed
    assert len(changed["label"]) == 1
    assert "split" not in changed
    assert after.labels is not None
    assert dict(zip(after.paths, after.labels.tolist(), strict=True))["/photos/3.png"] == "corrected"


def test_a_review_of_another_column_leaves_the_labels_as_they_are(store: Store, tmp_path: Path) -> None:
    before = store.catalog.datasets.load("numbers")
    assert before.labels is not None
    codes = [None if label is None else int(label) + 10 for label in before.labels.tolist()]
    store.catalog.datasets.save("numbers", before.with_columns(code=codes))
    words = ["--store", str(store.path)]
    review_it = ["review", "numbers", *words, "--target", "code", "--csv", str(tmp_path / "review.csv")]
    refused = CliRunner().invoke(app, review_it)
    assert "set the task to classification" in str(refused.exception)
    shown = CliRunner().invoke(app, [*review_it, "--task", "classification"], catch_exceptions=False)
    assert "correct its column 'code'" in shown.stdout
    import_it = ["dataset", "import", str(tmp_path / "review.csv"), "--name", "numbers", *words]
    CliRunner().invoke(app, import_it, catch_exceptions=False)
    assert store.catalog.datasets.load("numbers").version == 3
    assert store.catalog.datasets.diff("numbers", 2, 3).changed == {}
    found = review(store, dataset="numbers", options=ReviewOptions(target="code", task="classification"))
    plain = review(store, dataset="numbers")
    assert rows_of(found.of("label")) == rows_of(plain.of("label"))
    assert {one.label for one in found.of("label")} <= {"10", "11", "12", "13"}


def test_classes_like_true_or_1_survive_a_round_trip(store: Store, tmp_path: Path) -> None:
    before = store.catalog.datasets.load("numbers")
    assert before.labels is not None
    labels = [None if label is None else str(int(label) < 2).lower() for label in before.labels.tolist()]
    store.catalog.datasets.save("numbers", before.with_columns(label=labels, lot=[f"{row}.0" for row in range(400)]))
    review(store, dataset="numbers").write(tmp_path / "review.csv")
    import_labels(store, tmp_path / "review.csv", name="numbers")
    assert store.catalog.datasets.diff("numbers", 2, 3).changed == {}


def test_duplicate_groups_contain_each_row_once_most_similar_first() -> None:
    pairs = np.array([[0, 4], [4, 2], [1, 3]])
    found = Neighbours(np.empty((6, 0), np.float32), pairs, np.array([0.96, 0.97, 0.99], np.float32))
    groups = near_duplicates(found, 6)
    assert [rows for rows, _ in groups] == [[1, 3], [0, 2, 4]]
    assert [cosine for _, cosine in groups] == pytest.approx([0.99, 0.96])


def test_the_review_verb_prints_json(store: Store) -> None:
    done = CliRunner().invoke(app, ["review", "numbers", "--store", str(store.path), "--json"], catch_exceptions=False)
    result = json.loads(done.stdout)
    assert result["counts"]["label next"] == 20
    assert {"path", "reason", "label", "suggested", "score", "group", "split"} == set(result["found"][0])


def test_blockwise_neighbours_equal_those_of_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    whole = nearest(rows, threshold=0.9)
    monkeypatch.setattr("penult.pipeline.reviewing.neighbours.BLOCK", 7)
    parts = nearest(rows, threshold=0.9)
    assert np.array_equal(whole.pairs, parts.pairs)
    np.testing.assert_allclose(whole.cosines, parts.cosines, rtol=1e-5)
    centred = rows - rows.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    plain = centred @ centred.T - 3 * np.eye(50)
    assert {tuple(pair) for pair in whole.pairs.tolist()} == {
        (i, j) for i, j in np.argwhere(plain >= 0.9).tolist() if i < j
    }
    np.testing.assert_allclose(whole.cosines[:, 0], plain.max(axis=1), rtol=1e-4)
    joined = sorted(row for group, _ in near_duplicates(whole, 50) for row in group)
    assert joined == sorted(set(whole.pairs.ravel().tolist()))


def test_few_rows_give_no_duplicates_or_outliers() -> None:
    for n in (1, 2):
        found = nearest(np.eye(n, 3, dtype=np.float32), threshold=0.9)
        assert near_duplicates(found, n) == []
        assert outliers(found) == []


def test_only_confident_predictions_give_label_issues() -> None:
    chances = np.array([[0.9, 0.1], [0.8, 0.2], [0.45, 0.55], [0.1, 0.9], [0.05, 0.95], [np.nan, np.nan]])
    chances = np.concatenate([chances, np.repeat([[0.9, 0.1], [0.1, 0.9]], 10, axis=0)])
    rest = [0] * 10 + [1] * 10
    assert find_label_issues(chances, np.array([0, 0, 0, 1, 1, 1, *rest])) == []
    doubts = find_label_issues(chances, np.array([0, 0, 0, 1, 0, 1, *rest]))
    assert [(doubt.row, doubt.suggested) for doubt in doubts] == [(4, 1)]


@pytest.mark.parametrize("n_classes", [2, 5])
def test_uninformative_features_give_no_label_issues(tmp_path: Path, n_classes: int) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, n_classes, 300)
    opened = open_store(tmp_path / "store")
    table = Table(keys_of(300), tuple(f"{i}.png" for i in range(300)))
    labels = [f"class {code}" for code in codes]
    opened.catalog.datasets.save("things", table.with_columns(label=labels, split=["train"] * 200 + ["test"] * 100))
    for backbone, letter, apart in (("useless", "b", 0.0), ("weak", "c", 0.1)):
        features = rng.normal(size=(300, 60)) + (rng.normal(size=(n_classes, 60)) * apart)[codes]
        space = opened.space(SpaceSpec(backbone, letter * 64, "penultimate", 60))
        space.add(keys_of(300), features.astype(np.float32))
        assert review(opened, dataset="things", backbone=backbone).of("label") == ()


def test_label_issues_are_found_with_30_percent_wrong_labels() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400)
    features = rng.normal(size=(400, 20)).astype(np.float32)
    features[np.arange(400), truth] += 5
    wrong = rng.choice(400, 120, replace=False)
    codes = truth.copy()
    codes[wrong] = (codes[wrong] + rng.integers(1, 3, 120)) % 3
    doubted = {doubt.row for doubt in find_label_issues(leave_one_out_probabilities(features, codes), codes)}
    assert len(doubted & set(wrong.tolist())) > 0.8 * len(wrong)
    assert len(doubted & set(wrong.tolist())) > 0.8 * len(doubted)


def test_duplicates_are_not_selected_twice_for_labelling() -> None:
    rows = np.array([[1.0, 0], [1.0, 0], [0, 1.0], [-1.0, -1.0]])
    chances = np.array([[0.5, 0.5], [0.5, 0.5], [0.7, 0.3], [0.99, 0.01]])
    assert [row for row, _ in select_to_label(chances, rows, 2)] == [0, 2]


@pytest.mark.slow
def test_wrong_labels_of_real_photos_are_found(shared_data: Path, tmp_path: Path) -> None:
    images = shared_data / "images" / "hymenoptera"
    opened = open_store(tmp_path / "store")
    files: list[ImageFile] = find_images(images, Silent())
    penult.extract(files, opened)
    _, dataset = save_dataset(opened, "insects", files, str(images))
    assert dataset.labels is not None
    wrong = np.random.default_rng(0).choice(len(dataset), len(dataset) // 10, replace=False)
    labels = dataset.labels.tolist()
    names = sorted(set(labels))
    for row in wrong:
        labels[row] = names[1 - names.index(labels[row])]
    opened.catalog.datasets.save("insects", dataset.with_columns(label=labels))
    doubted = rows_of(review(opened, dataset="insects").of("label"))
    assert len(doubted & set(wrong.tolist())) / len(wrong) > 0.7
    assert len(doubted & set(wrong.tolist())) / len(doubted) > 0.6
