"""Tables: files of other programs are read, and written tables read back equal."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penult.errors import InputError, MissingExtraError, MissingFileError
from penult.store.keys import key_array, key_of
from penult.store.tables.columns import KINDS, Kind, as_column, kind_of
from penult.store.tables.formats import read_table, table_of, write_table
from penult.store.tables.joining import join
from penult.store.tables.table import Table

quick = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

ROWS = {"path": ["a.jpg", "b, c.jpg", 'd "e".jpg'], "label": ["ant", "Bär", None]}


def listed(columns: Any) -> dict[str, list[Any]]:
    return {name: values.tolist() for name, values in columns.items()}


def sheet_of(path: Path, content: str | bytes, **options: Any) -> Any:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, **options)


PLAIN = 'path,label\na.jpg,ant\n"b, c.jpg",Bär\n"d ""e"".jpg",\n'
SPREADSHEETS = {
    "plain": PLAIN.encode(),
    "without a last line end": PLAIN.rstrip("\n").encode(),
    "BOM": b"\xef\xbb\xbf" + PLAIN.encode(),
    "CRLF": PLAIN.replace("\n", "\r\n").encode(),
    "CR": PLAIN.replace("\n", "\r").encode(),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16 big endian": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "UTF-32": PLAIN.encode("utf-32"),
    "semicolons": 'path;label\na.jpg;ant\nb, c.jpg;Bär\n"d ""e"".jpg";\n'.encode(),
    "tabs": 'path\tlabel\na.jpg\tant\nb, c.jpg\tBär\n"d ""e"".jpg"\t\n'.encode(),
    "stated separator": 'sep=;\r\npath;label\r\na.jpg;ant\r\nb, c.jpg;Bär\r\n"d ""e"".jpg";\r\n'.encode(),
    "blanks after commas": b'path, label\na.jpg, ant\n"b, c.jpg", B\xc3\xa4r\n"d ""e"".jpg", \n',
    "empty lines and columns": 'path,label,,\na.jpg,ant,,\n,,,\n\n"b, c.jpg",Bär,,\n"d ""e"".jpg",,,\n,,,\n'.encode(),
    "names in capitals": PLAIN.replace("path,label", " Path ,LABEL").encode(),
}


@pytest.mark.parametrize("content", SPREADSHEETS.values(), ids=SPREADSHEETS.keys())
def test_read_table_reads_spreadsheet_csv(content: bytes, tmp_path: Path) -> None:
    assert listed(sheet_of(tmp_path / "labels.csv", content).columns) == ROWS


def test_a_tsv_may_contain_more_commas_than_tabs(tmp_path: Path) -> None:
    assert listed(sheet_of(tmp_path / "t.tsv", "a,b,c\td,e\n1,2\t3,4\n").columns) == {"a,b,c": ["1,2"], "d,e": ["3,4"]}


def test_errors_name_the_right_line_after_a_cell_with_line_breaks(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path / "t.csv", 'path,note\na,"one\ntwo"\n\nb,x\n')
    assert sheet.columns["note"].tolist() == ["one\ntwo", "x"]
    assert [sheet.where(row) for row in range(2)] == [f"{sheet.source}, line 2", f"{sheet.source}, line 5"]


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "-2", ""], "int", [1, -2, None]),
        (["1", "-2"], "int", [1, -2]),
        (["1", "2.5", "1e-07"], "float", [1.0, 2.5, 1e-07]),
        (["0.5", "", "NA", "-inf"], "float", [0.5, None, None, -math.inf]),
        (["1", "NA"], "int", [1, None]),
        (["TRUE", "false"], "bool", [True, False]),
        (["true", ""], "bool", [True, None]),
        (["007", "8"], "text", ["007", "8"]),
        (["12e3", "45"], "text", ["12e3", "45"]),
        (["3,14", "2,71"], "text", ["3,14", "2,71"]),
        (["NA", ""], "text", ["NA", None]),
        (["true", "1"], "text", ["true", "1"]),
        (["9223372036854775808"], "float", [9223372036854775808.0]),
        (["", ""], "text", [None, None]),
        ([" 1"], "text", [" 1"]),
        (["١٢"], "text", ["١٢"]),
    ],
)
def test_kinds_follow_from_the_cells_and_codes_stay_text(
    cells: list[str], kind: Kind, values: list[Any], tmp_path: Path
) -> None:
    content = "path;label\n" + "".join(f"{row}.jpg;{cell}\n" for row, cell in enumerate(cells))
    column = sheet_of(tmp_path / "t.csv", content).columns["label"]
    assert kind_of(column) == kind
    assert [None if isinstance(value, float) and math.isnan(value) else value for value in column.tolist()] == values


def test_a_requested_kind_applies_and_an_error_names_a_wrong_cell(tmp_path: Path) -> None:
    content = "path,label,split,group\na,1,1,2\nb,x,2,3\n"
    columns = sheet_of(tmp_path / "t.csv", content).columns
    assert listed(columns) == {"path": ["a", "b"], "label": ["1", "x"], "split": ["1", "2"], "group": ["2", "3"]}
    for kind in ("int", "float", "bool"):
        with pytest.raises(InputError, match=rf"t\.csv, line {'2' if kind == 'bool' else '3'}: 'label' is '(x|1)'"):
            read_table(tmp_path / "t.csv", kinds={"label": kind})
    codes = sheet_of(tmp_path / "t.csv", "path,label\na,1\n", kinds={"label": "text"})
    assert codes.columns["label"].tolist() == ["1"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"path,label\na,b\nc\n", r"line 3 has 1 cells. Expected: 2, as in the first line: path, label"),
        (b"path,label\na,b\nc,d,e\n", "line 3 has 3 cells"),
        (b"path,label\na,b\nc,d,e\n", "into quotes"),
        (b"path,label,Label\na,b,c\n", None),
        (b"path,label,label\na,b,c\n", "more than one column 'label'"),
        (b"path,,label\na,x,b\n", "Column 2 of .* has no name"),
        (b'path,label\na,"b\nc,d\n', "line 2 cannot be read"),
        (b'path,label\nb,c\na,"b"x\n', "line 3 cannot be read"),
        ("path,label\na,ant\nb,Bär\n".encode("cp1252"), "line 3 is not in UTF-8.*cp1252 the line reads 'b,Bär'"),
        ("path,label\na,b\n".encode("utf-16-le"), "zero bytes.*utf-16-le"),
    ],
)
def test_an_unreadable_csv_raises_with_its_line(content: bytes, words: str | None, tmp_path: Path) -> None:
    if words is None:
        assert set(sheet_of(tmp_path / "t.csv", content).columns) == {"path", "label", "Label"}
        return
    with pytest.raises(InputError, match=words):
        sheet_of(tmp_path / "t.csv", content)


def test_a_named_encoding_is_used(tmp_path: Path) -> None:
    content = "path,label\na,Bär\n"
    for encoding in ("cp1252", "utf-16-le", "mac-roman"):
        sheet = sheet_of(tmp_path / "t.csv", content.encode(encoding), encoding=encoding)
        assert sheet.columns["label"].tolist() == ["Bär"]
    with pytest.raises(InputError, match="no encoding 'cp1525'"):
        read_table(tmp_path / "t.csv", encoding="cp1525")


def test_a_missing_table_or_an_unknown_extension_raises(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no table"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"extension '\.xlsx'"):
        read_table(tmp_path / "t.xlsx")
    (tmp_path / "t.parquet").write_bytes(b"PAR1, or not")
    with pytest.raises(InputError, match="not a Parquet file"):
        read_table(tmp_path / "t.parquet")


def test_parquet_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"penult\[parquet\]"):
        read_table(tmp_path / "t.parquet")


def test_parquet_files_of_other_programs_are_read(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import datetime

    import pyarrow.parquet as pq

    pq.write_table(
        pa.table(
            {
                "Path": ["a", "b"],
                "label": pa.array(["x", None]).dictionary_encode(),
                "small": pa.array([1, None], pa.int8()),
                "big": pa.array([1, 2**40], pa.uint64()),
                "half": pa.array([0.5, None], pa.float32()),
                "when": pa.array([datetime.date(2024, 5, 1), None]),
                "at": pa.array([datetime.datetime(2024, 5, 1, 12, 30), None], pa.timestamp("ms")),
                "key": pa.array([b"k" * 16, b"l" * 16], pa.binary(16)),
                "nothing": pa.nulls(2),
            }
        ),
        tmp_path / "t.parquet",
    )
    columns = listed(read_table(tmp_path / "t.parquet").columns)
    assert columns.pop("half")[0] == 0.5
    assert columns == {
        "path": ["a", "b"],
        "label": ["x", None],
        "small": [1, None],
        "big": [1, 2**40],
        "when": ["2024-05-01", None],
        "at": ["2024-05-01T12:30:00", None],
        "key": [(b"k" * 16).hex(), (b"l" * 16).hex()],
        "nothing": [None, None],
    }
    pq.write_table(pa.table({"path": ["a"], "label": [["x", "y"]]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"label contains values of type list.*one column of booleans for each label"):
        read_table(tmp_path / "t.parquet")


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
values: dict[Kind, st.SearchStrategy[Any]] = {
    "text": texts,
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
}
printable = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
names = st.text(printable, min_size=1, max_size=6).filter(
    lambda name: name == name.strip() != "" and name.lower() not in {"key", "path", "split", "group"}
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    rows = draw(st.integers(0, 8))
    kinds = draw(
        st.dictionaries(names.filter(lambda name: name.lower() != "label"), st.sampled_from(KINDS), max_size=4)
    )
    columns = {
        name: as_column(draw(st.lists(st.none() | values[kind], min_size=rows, max_size=rows)))
        for name, kind in kinds.items()
    }
    keys = np.frombuffer(draw(st.binary(min_size=16 * rows, max_size=16 * rows)), np.uint8).reshape(-1, 16)
    return Table(keys, tuple(draw(st.lists(texts, min_size=rows, max_size=rows))), columns)


@quick
@given(table=tables(), suffix=st.sampled_from([".csv", ".parquet"]))
def test_a_written_table_reads_back_equal(table: Table, suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"t{suffix}"
    write_table(path, table)
    kinds = {name: kind_of(values) for name, values in table.columns.items()}
    back = table_of(read_table(path, kinds=kinds))
    assert np.array_equal(back.keys, table.keys)
    assert back.paths == table.paths
    assert list(back.columns) == list(table.columns)
    for name, column in table.columns.items():
        assert repr(back.columns[name].tolist()) == repr(column.tolist()), name
        assert kind_of(back.columns[name]) == kinds[name]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    path.unlink()


def test_write_table_replaces_the_file_atomically(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"before")
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match="not valid Unicode"):
        write_table(path, Table(np.zeros((1, 16), np.uint8), ("caf\udce9.jpg",)))
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_csv_keeps_the_bytes_of_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", Table(np.zeros((1, 16), np.uint8), ("caf\udce9.jpg",)))
    with pytest.raises(InputError, match="line 2 is not in UTF-8"):
        read_table(tmp_path / "t.csv")
    assert table_of(read_table(tmp_path / "t.csv", encoding="utf-8")).paths == ("caf\udce9.jpg",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path\na\n", "no column 'key'.*one of path"),
        ("key,path\nabc,a\n", "line 2 has the key 'abc'"),
        ("key,label\n" + "0" * 32 + ",a\n", "no column 'path'"),
    ],
)
def test_a_sheet_that_is_not_a_table_raises(content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        table_of(sheet_of(tmp_path / "t.csv", content))


def images(*paths: str, **columns: list[Any]) -> Table:
    return Table(
        key_array(key_of(path.encode()) for path in paths), paths, {n: as_column(v) for n, v in columns.items()}
    )


def test_labels_join_by_path_and_unmatched_rows_and_images_are_listed(tmp_path: Path) -> None:
    known = images(
        f"{tmp_path}/x/a.jpg", f"{tmp_path}/x/b.jpg", "/elsewhere/c.jpg", f"{tmp_path}/d.jpg", split=[*"abcd"]
    )
    content = (
        f"path,label\nx/b.jpg,bee\n./x/../x/a.jpg,ant\n{tmp_path}/x/b.jpg,bee\n/elsewhere/c.jpg,moth\nx/z.jpg,ant\n"
    )
    joined = join(sheet_of(tmp_path / "labels.csv", content), known)
    assert joined.table.paths == known.paths[:3]
    assert listed(joined.table.columns) == {"split": ["a", "b", "c"], "label": ["ant", "bee", "moth"]}
    assert np.array_equal(joined.table.keys, known.keys[:3])
    assert (joined.unmatched.tolist(), joined.unlabelled.tolist(), joined.repeated.tolist()) == ([4], [3], [2])


def test_join_takes_a_base_folder_and_a_path_column(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path / "labels.csv", "file,label\ns\\a.jpg,ant\n")
    joined = join(sheet, images("/photos/s/a.jpg"), base="/photos", path_column="file")
    assert listed(joined.table.columns) == {"label": ["ant"]}
    assert not len(join(sheet, images("/photos/s/a.jpg"), path_column="file").table)
    with pytest.raises(InputError, match=r"no column 'path'.*one of file, label"):
        join(sheet, images("/photos/s/a.jpg"))


def test_join_matches_composed_and_decomposed_letters(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path / "labels.csv", "path,label\nBa\u0308r.jpg,bear\n")
    joined = join(sheet, images("/photos/B\u00e4r.jpg"), base="/photos")
    assert listed(joined.table.columns) == {"label": ["bear"]}


def test_labels_join_by_key_for_every_copy(tmp_path: Path) -> None:
    one, other = key_of(b"1"), key_of(b"2")
    known = Table(key_array([one, other, one]), ("a", "b", "c"))
    joined = join(sheet_of(tmp_path / "t.csv", f"key,label\n{one.hex()},ant\n{'0' * 32},bee\n"), known)
    assert joined.table.paths == ("a", "c")
    assert listed(joined.table.columns) == {"label": ["ant", "ant"]}
    assert (joined.unmatched.tolist(), joined.unlabelled.tolist()) == ([1], [1])


def test_contradicting_rows_raise_with_both_lines(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path / "t.csv", "path,label\na,ant\nb,bee\na,moth\n")
    with pytest.raises(InputError, match=r"line 4 has label 'moth', but line 2 for the same image has 'ant'"):
        join(sheet, images("/p/a", "/p/b"), base="/p")
    missing = sheet_of(tmp_path / "t.csv", "path,weight\na,1.5\nb,\nb,\n")
    assert join(missing, images("/p/a", "/p/b"), base="/p").repeated.tolist() == [2]
    with pytest.raises(InputError, match="line 2 has no path"):
        join(sheet_of(tmp_path / "t.csv", "path,label\n,ant\n"), images("/p/a"))


def test_a_real_sheet_of_labels_joins_its_images(shared_data: Path) -> None:
    folder = shared_data / "images/imagenet_100"
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".JPEG")
    known = Table(key_array(key_of(path.read_bytes()) for path in paths), tuple(map(str, paths)))
    joined = join(read_table(folder / "labels.csv"), known, path_column="file")
    assert (len(joined.table), len(joined.unmatched), len(joined.unlabelled)) == (100, 0, 0)
    assert kind_of(joined.table.columns["class_index"]) == "int"
    place = joined.table.paths.index(str(folder / "n01491361_tiger_shark.JPEG"))
    assert joined.table.columns["class_index"][place] == 3
