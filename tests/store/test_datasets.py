"""Datasets: immutable versions, labels apart from features, and differences between versions."""

import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from penult.errors import InputError, UnknownNameError
from penult.store.catalog import Catalog, blocks
from penult.store.catalog.blocks import decode, encode
from penult.store.catalog.datasets import Dataset
from penult.store.catalog.files import SeenFile
from penult.store.keys import key_array, key_of
from penult.store.tables.columns import KINDS, Kind, as_column, kind_of, missing_in
from penult.store.tables.differences import difference
from penult.store.tables.table import Table

quick = settings(deadline=None, max_examples=30)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog(tmp_path / "catalog.sqlite") as opened:
        yield opened


def table_of(count: int, start: int = 0, **columns: Any) -> Table:
    names = [f"/images/{number}.jpg" for number in range(start, start + count)]
    return Table(
        key_array(key_of(name.encode()) for name in names),
        tuple(names),
        {name: as_column(values) for name, values in columns.items()},
    )


def plain(table: Table) -> Any:
    columns = {name: (kind_of(values), repr(values.tolist())) for name, values in table.columns.items()}
    return table.keys.tobytes(), table.paths, columns


values: dict[Kind, st.SearchStrategy[Any]] = {
    "text": st.text(st.characters(codec=None), max_size=5),
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(),
    "bool": st.booleans(),
}


@st.composite
def columns(draw: st.DrawFn, rows: int | None = None) -> NDArray[Any]:
    kind = draw(st.sampled_from(KINDS))
    most = 30 if rows is None else rows
    return as_column(draw(st.lists(st.none() | values[kind], min_size=rows or 0, max_size=most)))


@quick
@given(column=columns())
def test_encode_and_decode_round_trip_a_column(column: NDArray[Any]) -> None:
    kind = kind_of(column)
    back = decode(encode(column, kind), kind, len(column))
    assert repr(as_column(back).tolist()) == repr(column.tolist())
    assert missing_in(as_column(back)).tolist() == missing_in(column).tolist()


@quick
@given(column=columns())
def test_as_column_keeps_a_column_unchanged(column: NDArray[Any]) -> None:
    again = as_column(column)
    assert (again.dtype, repr(again.tolist())) == (column.dtype, repr(column.tolist()))
    with pytest.raises(ValueError, match="read-only"):
        again[:0] = again[:0]


@pytest.mark.parametrize(
    ("given_values", "dtype", "expected"),
    [
        (["a", None, "b"], object, ["a", None, "b"]),
        (np.array(["a", "bc"]), object, ["a", "bc"]),
        (np.array(["a", np.nan], object), object, ["a", None]),
        (np.array([1, 2], np.int8), np.int64, [1, 2]),
        (np.array([1, 2**40], np.uint64), np.int64, [1, 2**40]),
        ([np.int32(1), 2], np.int64, [1, 2]),
        ([1, None], object, [1, None]),
        ([1, 0.5], np.float64, [1.0, 0.5]),
        (np.array([0.5], np.float16), np.float64, [0.5]),
        ([True, False], np.bool_, [True, False]),
        ([True, None], object, [True, None]),
        ([], object, []),
        ([None, float("nan")], object, [None, None]),
        ((np.str_("a"),), object, ["a"]),
    ],
)
def test_as_column_returns_one_of_four_kinds(given_values: Any, dtype: Any, expected: list[Any]) -> None:
    column = as_column(given_values)
    assert column.dtype == dtype
    assert column.tolist() == expected
    assert all(value is None or type(value) in {str, int, float, bool} for value in column.tolist())


@pytest.mark.parametrize(
    ("given_values", "words"),
    [
        ([1, "a"], "values of kind int, str"),
        ([True, 1], "values of kind bool, int"),
        ([["ant", "bee"]], "values of kind list.*one column of booleans for each label"),
        ([b"ant"], "values of kind bytes"),
        ([2**63], "beyond 64 bits"),
        ([-(2**63) - 1, None], "beyond 64 bits"),
        (np.array([2**63], np.uint64), "beyond 64 bits"),
        (np.zeros((2, 2)), "has 2 dimensions"),
    ],
)
def test_values_of_no_kind_raise(given_values: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        as_column(given_values)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Table(np.zeros((2, 16), np.uint8), ("a",)), "'path' has 1 rows.*Expected: 2"),
        (lambda: table_of(2, label=["a"]), "'label' has 1 rows"),
        (lambda: Table(np.zeros((2, 15), np.uint8), ("a", "b")), r"uint8 of shape \(2, 15\)"),
        (lambda: Table(np.zeros((1, 16), np.int64), ("a",)), "int64"),
        (lambda: Table(np.zeros((0, 16), np.uint8), (), {"path": as_column([])}), "'path' is not a valid column name"),
        (lambda: Table(np.zeros((0, 16), np.uint8), (), {"Label": as_column([])}), "Expected: 'label'"),
        (lambda: Table(np.zeros((0, 16), np.uint8), (), {" x": as_column([])}), "' x'"),
        (lambda: table_of(2).select("train"), "no splits.*split the dataset first"),
        (lambda: table_of(2).select(np.array([True])), "mask has the shape"),
    ],
)
def test_an_invalid_table_raises(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def test_a_selection_keeps_rows_together() -> None:
    table = table_of(4, label=["ant", "bee", None, "ant"], split=["train", "test", "train", None], n=[0, 1, 2, 3])
    for selection in ("train", np.array([True, False, True, False]), np.array([0, 2])):
        part = table.select(selection)
        assert part.paths == (table.paths[0], table.paths[2])
        assert np.array_equal(part.keys, table.keys[[0, 2]])
        assert {name: column.tolist() for name, column in part.columns.items()} == {
            "label": ["ant", None],
            "split": ["train", "train"],
            "n": [0, 2],
        }
    with pytest.raises(UnknownNameError, match=r"No split is called 'val'.*one of test, train"):
        table.select("val")
    assert table.select(np.array([3, 3, 0])).columns["n"].tolist() == [3, 3, 0]


def test_with_columns_returns_a_new_table() -> None:
    table = table_of(2, label=["ant", "bee"])
    more = table.with_columns({"split": np.array(["train", "test"])}, label=np.array(["moth", "bee"]))
    assert more.labels is not None
    assert (more.labels.tolist(), list(more.columns)) == (["moth", "bee"], ["label", "split"])
    assert list(table.columns) == ["label"]
    assert (table.splits, table.groups) == (None, None)


def test_a_table_copies_its_arrays_and_is_readonly() -> None:
    keys = np.zeros((1, 16), np.uint8)
    table = Table(keys, ("a",), {"n": np.array([1])})
    keys[:] = 7
    assert not table.keys.any()
    for array in (table.keys, table.columns["n"]):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
    with pytest.raises(TypeError):
        table.columns["x"] = table.columns["n"]  # type: ignore[index]  # what is tested


@quick
@given(data=st.data(), rows=st.integers(0, 20), cut_every=st.sampled_from([1, 2, 8192]), largest=st.integers(1, 8))
def test_a_dataset_loads_as_it_was_saved(data: st.DataObject, rows: int, cut_every: int, largest: int) -> None:
    texts = st.text(st.characters(codec=None, exclude_characters="\0"), min_size=1, max_size=8)
    table = Table(
        np.frombuffer(data.draw(st.binary(min_size=16 * rows, max_size=16 * rows)), np.uint8).reshape(-1, 16),
        tuple(data.draw(st.lists(texts, min_size=rows, max_size=rows))),
        {f"c{number}": data.draw(columns(rows)) for number in range(data.draw(st.integers(0, 3)))},
    )
    with (
        TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        Catalog(Path(folder, "catalog.sqlite")) as catalog,
    ):
        patch.setattr(blocks, "CUT_EVERY", cut_every)
        patch.setattr(blocks, "LARGEST", largest)
        saved = catalog.datasets.save("D", table)
        loaded = catalog.datasets.load("D")
        assert plain(saved) == plain(loaded) == plain(table)
        assert (saved.name, saved.version, saved.created, saved.digest) == (
            loaded.name,
            loaded.version,
            loaded.created,
            loaded.digest,
        )
        assert catalog.datasets.save("D", loaded).version == 1


def test_save_makes_a_version_only_for_changed_content(catalog: Catalog) -> None:
    table = table_of(3, label=["ant", "bee", None], n=[1, 2, 3])
    first = catalog.datasets.save("D", table)
    assert isinstance(first, Dataset)
    assert (first.name, first.version, len(first)) == ("D", 1, 3)
    reordered = Table(table.keys, table.paths, {name: table.columns[name] for name in ("n", "label")})
    same = catalog.datasets.save("D", reordered)
    assert (same.version, same.digest, same.created) == (1, first.digest, first.created)
    others = [
        table.with_columns(label=np.array(["ant", "bee", "moth"])),
        table.with_columns(n=np.array([1.0, 2.0, 3.0])),
        Table(table.keys, table.paths, {"label": table.columns["label"]}),
        table.select(np.array([0, 1])),
        table.select(np.array([1, 0, 2])),
        Table(table.keys, ("a", "b", "c"), table.columns),
        table,
    ]
    for number, other in enumerate(others, start=2):
        assert catalog.datasets.save("D", other).version == number
    assert [version.version for version in catalog.datasets.versions("D")] == list(range(1, 9))
    assert plain(catalog.datasets.load("D", 2)) == plain(others[0])
    assert catalog.datasets.load("D").digest == first.digest
    assert catalog.datasets.save("E", table).version == 1
    assert catalog.datasets.names() == ["D", "E"]


def test_versions_are_listed_without_loading_them(catalog: Catalog, tmp_path: Path) -> None:
    catalog.datasets.save("D", table_of(3, label=["ant", "bee", None]))
    connection = sqlite3.connect(tmp_path / "catalog.sqlite")
    with connection:
        connection.execute("DELETE FROM blocks")
    connection.close()
    (known,) = catalog.datasets.versions("D")
    assert (known.name, known.version, known.rows, known.columns, known.is_removed) == ("D", 1, 3, ("label",), False)


def test_the_number_of_a_removed_version_is_not_reused(catalog: Catalog, tmp_path: Path) -> None:
    for label in ("ant", "bee", "moth"):
        catalog.datasets.save("D", table_of(2, label=[label] * 2))
    catalog.datasets.remove("D", 3)
    assert catalog.datasets.load("D").version == 2
    with pytest.raises(UnknownNameError, match=r"no version 3.*one of 1, 2"):
        catalog.datasets.load("D", 3)
    assert catalog.datasets.save("D", table_of(2, label=["moth"] * 2)).version == 4
    catalog.datasets.remove("D")
    assert catalog.datasets.names() == []
    for act in (catalog.datasets.load, catalog.datasets.versions, catalog.datasets.remove):
        with pytest.raises(UnknownNameError, match="No dataset is called 'D'"):
            act("D")
    assert catalog.datasets.save("D", table_of(2)).version == 5
    connection = sqlite3.connect(tmp_path / "catalog.sqlite")
    assert connection.execute("SELECT count(*) FROM blocks").fetchone()[0] == 2
    connection.close()


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800"])
def test_a_name_that_is_not_printable_raises(catalog: Catalog, name: str) -> None:
    with pytest.raises(InputError, match="not a valid name"):
        catalog.datasets.save(name, table_of(1))


def bytes_of_blocks(path: Path) -> int:
    connection = sqlite3.connect(path)
    size = connection.execute("SELECT sum(length(data)) FROM blocks").fetchone()[0]
    connection.close()
    return int(size)


def test_relabelling_stores_only_the_labels(catalog: Catalog, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = table_of(20_000, label=rng.choice(["ant", "bee", "moth"], 20_000))
    catalog.datasets.save("D", table)
    first = bytes_of_blocks(tmp_path / "catalog.sqlite")
    catalog.datasets.save("D", table.with_columns(label=rng.choice(["ant", "bee", "moth"], 20_000)))
    assert bytes_of_blocks(tmp_path / "catalog.sqlite") - first < 0.03 * first


def test_inserted_rows_store_only_their_own_block(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "CUT_EVERY", 200)
    table = table_of(20_000)
    catalog.datasets.save("D", table)
    first = bytes_of_blocks(tmp_path / "catalog.sqlite")
    new = table_of(5, start=50_000)
    both = Table(
        np.insert(table.keys, 7_500, new.keys, axis=0), (*table.paths[:7_500], *new.paths, *table.paths[7_500:])
    )
    assert catalog.datasets.save("D", both).version == 2
    assert bytes_of_blocks(tmp_path / "catalog.sqlite") - first < 0.05 * first
    assert plain(catalog.datasets.load("D")) == plain(both)


def test_a_difference_lists_added_removed_moved_and_changed_rows(catalog: Catalog) -> None:
    old = table_of(6, label=["ant", "ant", "bee", "bee", None, "moth"], weight=[1.0, None, 2.0, 3.0, 4.0, 5.0])
    keys, paths = old.keys[:5].copy(), [*old.paths[:5]]
    paths[1] = "/elsewhere/1.jpg"  # moved
    keys[2] = np.frombuffer(key_of(b"edited"), np.uint8)  # another image at the same path
    new = Table(
        np.vstack([keys, table_of(1, start=77).keys]),
        (*paths, "/images/77.jpg"),
        {"label": as_column(["ant", "bee", "bee", None, None, "ant"]), "split": as_column(["train"] * 6)},
    )
    catalog.datasets.save("D", old)
    catalog.datasets.save("D", new)
    found = catalog.datasets.diff("D", 1, 2)
    assert found.added.tolist() == [5]
    assert found.removed.tolist() == [5]
    assert found.moved.tolist() == [[1, 1]]
    assert found.edited.tolist() == [[2, 2]]
    assert (found.columns_added, found.columns_removed) == (("split",), ("weight",))
    assert {name: pairs.tolist() for name, pairs in found.changed.items()} == {"label": [[1, 1], [3, 3]]}
    assert found.summary() == {
        "added": 1,
        "removed": 1,
        "moved": 1,
        "edited": 1,
        "columns_added": ["split"],
        "columns_removed": ["weight"],
        "changed": {"label": 2},
    }


@quick
@given(data=st.data())
def test_a_difference_accounts_for_every_row_once(data: st.DataObject) -> None:
    rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from(["a", "b", None])), max_size=12)
    old, new = (
        Table(
            key_array(bytes([number]) * 16 for number, _, _ in drawn),
            tuple(str(path) for _, path, _ in drawn),
            {"label": as_column([label for _, _, label in drawn])},
        )
        for drawn in (data.draw(rows), data.draw(rows))
    )
    found = difference(old, new)
    matched = len(old) - len(found.removed)
    assert matched == len(new) - len(found.added)
    assert len(set(found.added.tolist())) == len(found.added)
    for before, after in found.moved:
        assert old.paths[before] != new.paths[after]
        assert np.array_equal(old.keys[before], new.keys[after])
    for before, after in found.edited:
        assert old.paths[before] == new.paths[after]
        assert not np.array_equal(old.keys[before], new.keys[after])
    assert difference(old, old).summary() == {
        "added": 0,
        "removed": 0,
        "moved": 0,
        "edited": 0,
        "columns_added": [],
        "columns_removed": [],
        "changed": {},
    }


def test_the_recorded_files_of_a_folder_are_a_table(catalog: Catalog) -> None:
    for path in ("/images/a.jpg", "/images/b/c.jpg", "/images2/d.jpg", "/e.jpg"):
        catalog.files.record([SeenFile(path, 1, 1, key_of(path.encode()))])
    assert catalog.files.table("/images").paths == catalog.files.table("/images/").paths
    assert catalog.files.table("/images").paths == ("/images/a.jpg", "/images/b/c.jpg")
    everything = catalog.files.table()
    assert everything.key_bytes() == [key_of(path.encode()) for path in everything.paths]
    assert len(everything) == 4


def test_two_writers_of_one_dataset_each_get_their_version(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        import numpy as np
        from penult.store.catalog import Catalog
        from penult.store.tables.table import Table
        with Catalog(Path(sys.argv[1])) as catalog:
            for turn in range(12):
                table = Table(np.zeros((2, 16), np.uint8), ("a", "b"), {"who": [sys.argv[2]] * 2, "turn": [turn] * 2})
                print(catalog.datasets.save("D", table).version)
    """
    path = tmp_path / "catalog.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), path, who], stdout=subprocess.PIPE, text=True)
        for who in "xy"
    ]
    numbers = [int(number) for writer in writers for number in writer.communicate()[0].split()]
    assert sorted(numbers) == list(range(1, 25))
    with Catalog(path) as catalog:
        found = [catalog.datasets.load("D", number) for number in range(1, 25)]
        for who in "xy":
            mine = [one.columns["turn"][0] for one in found if one.columns["who"][0] == who]
            assert mine == list(range(12))


@pytest.mark.slow
def test_a_million_rows_are_saved_loaded_and_compared_in_seconds(catalog: Catalog) -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 256, (1_000_000, 16), np.uint8)
    labels = rng.choice(["ant", "bee", "moth"], 1_000_000)
    table = Table(
        keys, tuple(f"/images/{number % 50}/{number:07d}.jpg" for number in range(1_000_000)), {"label": labels}
    )
    for seconds, act in (
        (10, lambda: catalog.datasets.save("D", table)),
        (10, lambda: catalog.datasets.load("D")),
        (10, lambda: catalog.datasets.save("D", table.with_columns(label=np.roll(labels, 1)))),
        (15, lambda: catalog.datasets.diff("D", 1, 2)),
    ):
        start = time.process_time()
        act()
        assert time.process_time() - start < seconds
