"""A label that a person corrected survives every later import from the source."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penult.errors import InputError
from penult.pipeline.fit import dataset_name
from penult.pipeline.samples.merging import Merged, check_source, conflicts_in, merge_source, present, update_rows
from penult.pipeline.samples.rows import choose_rows
from penult.store import open_store
from penult.store.catalog.datasets import Dataset, Datasets
from penult.store.keys import key_array
from penult.store.tables.table import Table

SOURCE = "/photos"


def table_of(labels: dict[str, str], **columns: list[object]) -> Table:
    """Returns a table with one image per letter, all in the split train."""
    keys = key_array([letter.encode() * 16 for letter in labels])
    paths = tuple(f"{letter}.jpg" for letter in labels)
    return Table(keys, paths, {"label": list(labels.values()), "split": ["train"] * len(labels), **columns})  # type: ignore[dict-item]  # as_column takes lists


def labels_of(table: Table) -> dict[str, str]:
    assert table.labels is not None
    return {path.removesuffix(".jpg"): str(label) for path, label in zip(table.paths, table.labels, strict=True)}


@pytest.fixture
def datasets(tmp_path: Path) -> Datasets:
    return open_store(tmp_path / "store").catalog.datasets


def import_source(datasets: Datasets, labels: dict[str, str], *, discard: bool = False) -> Merged:
    merged = merge_source(datasets, "photos", table_of(labels), SOURCE, discard=discard)
    datasets.save("photos", merged.table)
    return merged


def correct(datasets: Datasets, labels: dict[str, str]) -> Dataset:
    edited = table_of(labels)
    edited = Table(edited.keys, edited.paths, {"label": edited.columns["label"]})
    return datasets.save("photos", update_rows(datasets.load("photos"), edited))


def test_a_correction_survives_an_unchanged_source(datasets: Datasets) -> None:
    import_source(datasets, {"a": "cat", "b": "dog"})
    correct(datasets, {"a": "dog"})
    merged = import_source(datasets, {"a": "cat", "b": "dog"})
    assert labels_of(datasets.load("photos")) == {"a": "dog", "b": "dog"}
    assert merged.notes == ("kept: 1 label that a person corrected",)
    assert merged.conflicts == ()


def test_an_uncorrected_label_follows_the_source(datasets: Datasets) -> None:
    import_source(datasets, {"a": "cat", "b": "dog"})
    merged = import_source(datasets, {"a": "wolf", "b": "dog", "c": "cat"})
    assert labels_of(datasets.load("photos")) == {"a": "wolf", "b": "dog", "c": "cat"}
    assert merged.added == 1
    assert merged.notes == ()


def test_a_correction_and_a_changed_source_are_a_conflict_until_it_is_settled(datasets: Datasets) -> None:
    import_source(datasets, {"a": "cat", "b": "dog"})
    correct(datasets, {"a": "dog"})
    merged = import_source(datasets, {"a": "wolf", "b": "dog"})
    assert labels_of(datasets.load("photos"))["a"] == "dog"
    (conflict,) = merged.conflicts
    assert (conflict.path, conflict.label, conflict.source_label) == ("a.jpg", "dog", "wolf")
    assert "a.jpg (dog, now wolf)" in merged.notes[1]
    import_source(datasets, {"a": "wolf", "b": "dog"})
    assert conflicts_in(datasets.load("photos")) == merged.conflicts
    settled = correct(datasets, {"a": "dog"})
    assert conflicts_in(settled) == ()
    assert import_source(datasets, {"a": "wolf", "b": "dog"}).conflicts == ()


def test_corrections_are_discarded_only_deliberately_and_counted(datasets: Datasets) -> None:
    import_source(datasets, {"a": "cat", "b": "dog"})
    correct(datasets, {"a": "dog"})
    merged = import_source(datasets, {"a": "cat", "b": "dog"}, discard=True)
    assert labels_of(datasets.load("photos"))["a"] == "cat"
    assert merged.notes == ("discarded: 1 label that a person had corrected",)


def test_images_that_are_gone_are_kept_and_not_trained_on_until_they_are_back(datasets: Datasets) -> None:
    everything = {letter: "cat" if letter < "e" else "dog" for letter in "abcdefgh"}
    import_source(datasets, everything)
    splits = ["test" if letter in "ae" else "train" for letter in everything]
    whole = datasets.load("photos")
    datasets.save("photos", whole.with_columns(split=splits))
    correct(datasets, {"b": "dog"})
    merged = import_source(datasets, {letter: label for letter, label in everything.items() if letter != "b"})
    assert merged.notes == ("no longer in the source, and not trained on: 1 image",)
    dataset = datasets.load("photos")
    assert labels_of(dataset)["b"] == "dog"
    assert "b" not in labels_of(present(dataset))
    assert "b.jpg" not in choose_rows(dataset).train.paths
    import_source(datasets, everything)
    assert labels_of(present(datasets.load("photos")))["b"] == "dog"


def test_a_person_s_split_and_further_columns_survive(datasets: Datasets) -> None:
    import_source(datasets, {"a": "cat", "b": "dog"})
    whole = datasets.load("photos")
    datasets.save("photos", whole.with_columns(split=["test", "train"], group=["g1", "g2"]))
    import_source(datasets, {"b": "dog", "a": "cat", "c": "cat"})
    dataset = datasets.load("photos")
    assert dataset.splits is not None
    assert dataset.groups is not None
    assert dict(zip(dataset.paths, dataset.splits, strict=True)) == {
        "a.jpg": "test",
        "b.jpg": "train",
        "c.jpg": "train",
    }
    assert dict(zip(dataset.paths, dataset.groups, strict=True)) == {"a.jpg": "g1", "b.jpg": "g2", "c.jpg": None}


def test_labels_of_unknown_origin_are_kept_and_reported(datasets: Datasets) -> None:
    datasets.save("photos", table_of({"a": "cat", "b": "dog"}))  # by an import, or by an earlier version of penult
    merged = import_source(datasets, {"a": "wolf", "b": "dog"})
    assert labels_of(datasets.load("photos")) == {"a": "cat", "b": "dog"}
    assert merged.corrections == 1
    assert [conflict.path for conflict in conflicts_in(datasets.load("photos"))] == ["a.jpg"]


def test_a_dataset_of_another_source_raises(datasets: Datasets) -> None:
    import_source(datasets, {"a": "cat", "b": "dog"})
    check_source(datasets, "photos", SOURCE)
    with pytest.raises(InputError, match=r"'photos' belongs to '/photos', and not to '/other'.*--name"):
        check_source(datasets, "photos", "/other")


def test_a_dataset_is_named_after_the_telling_part_of_its_path() -> None:
    assert dataset_name("/data/site-a/images") == "site-a"
    assert dataset_name("/data/site-b/images/") == "site-b"
    assert dataset_name("labels.csv") == "labels"


LETTERS = st.sampled_from("abcd")
LABELS = st.sampled_from(["cat", "dog", "wolf"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("source"), st.dictionaries(LETTERS, LABELS, min_size=1)),
        st.tuples(st.just("correct"), st.tuples(LETTERS, LABELS)),
        st.tuples(st.just("discard"), st.dictionaries(LETTERS, LABELS, min_size=1)),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_any_sequence_of_steps_keeps_every_correction(
    steps: list[tuple[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("sequence") / "store"
    datasets = open_store(folder).catalog.datasets
    import_source(datasets, {"a": "cat", "b": "dog"})
    corrected: dict[str, str] = {}
    sources = {"a": "cat", "b": "dog"}  # what the source said last of each image
    for kind, what in steps:
        known = labels_of(datasets.load("photos"))
        if kind == "correct":
            letter, label = what
            if letter in known:
                correct(datasets, {letter: label})
                corrected[letter] = label
                if sources.get(letter) == label:  # nothing to keep: the source says the same
                    del corrected[letter]
        elif kind == "reopen":
            datasets = open_store(folder).catalog.datasets
        else:
            now = dict(what)
            import_source(datasets, now, discard=kind == "discard")
            sources |= now
            settled = (
                set(now) if kind == "discard" else {letter for letter in now if corrected.get(letter) == now[letter]}
            )
            corrected = {letter: label for letter, label in corrected.items() if letter not in settled}
        known = labels_of(datasets.load("photos"))
        assert {letter: known[letter] for letter in corrected} == corrected
        assert {letter: known[letter] for letter in sources if letter not in corrected} == {
            letter: label for letter, label in sources.items() if letter not in corrected
        }


def test_merging_a_hundred_thousand_images_takes_seconds(datasets: Datasets) -> None:
    n = 100_000
    keys = np.random.default_rng(0).integers(0, 256, (n, 16), np.uint8)
    labels = [f"class {code % 20}" for code in range(n)]
    table = Table(keys, tuple(f"{code}.jpg" for code in range(n)), {"label": labels, "split": ["train"] * n})  # type: ignore[dict-item]  # as_column takes lists
    datasets.save("photos", merge_source(datasets, "photos", table, SOURCE).table)
    merged = merge_source(datasets, "photos", table, SOURCE)
    assert (merged.corrections, merged.added, merged.absent) == (0, 0, 0)
