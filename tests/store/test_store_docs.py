"""docs/store.md is correct: its Python runs, and each sentence of its guarantee has a test."""

import re
from pathlib import Path

import pytest

from penult.store import open_store
from penult.store.spaces.space_folder import PARTS
from tests.store import test_guarantee


@pytest.fixture
def text(project: Path) -> str:
    return (project / "docs" / "store.md").read_text()


def test_the_python_in_the_docs_runs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    assert names["features"].shape == (2, 4)  # type: ignore[attr-defined] # what the docs' last block read
    assert len(open_store("features").spaces()[0]) == 2


def test_the_docs_name_every_folder_of_a_space(text: str) -> None:
    assert all(f"{part}/" in text for part in PARTS)


@pytest.mark.parametrize(
    ("words", "tests"),
    [
        ("When `add()` returns, its rows are durable", "test_when_add_returns_its_rows_are_durable_through"),
        ("power loss", "test_when_add_returns_its_rows_survive_the_loss_of_power"),
        ("a full disk", "test_when_add_returns_its_rows_survive_a_disk_that_is_really_full"),
        ("A batch is visible whole or not at all", "test_a_batch_is_visible_whole_or_not_at_all"),
        ("exactly the committed set of one moment", "test_a_read_returns_exactly_the_committed_set_of_one_moment"),
        ("a row whose checksum does not match", "test_a_read_never_returns_a_row_whose_checksum_does_not_match"),
        ("or a row under another key", "test_a_read_never_returns_a_row_under_another_key"),
        ("Any number of writers, readers and compactors", "test_any_number_may_run_at_once_and_die"),
        ("none takes a lock", "test_none_takes_a_lock"),
        ("no clock is read for correctness", "test_no_clock_is_read_for_correctness"),
        (
            "whatever order, names or compaction",
            "test_the_same_rows_give_the_same_answer_whatever_order_names_or_compact",
        ),
    ],
)
def test_each_sentence_of_the_guarantee_has_a_test_with_its_name(text: str, words: str, tests: str) -> None:
    assert words in text
    assert any(name.startswith(tests) for name in vars(test_guarantee))
