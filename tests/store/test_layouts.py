"""Layouts: exact round trips, one-line reads in other programs, and imports of their files."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from penult.errors import (
    InputError,
    MissingExtraError,
    MissingFileError,
    RowsRefusedError,
    StoreWriteError,
    UnknownNameError,
)
from penult.store.catalog.files import SeenFile
from penult.store.keys import key_array, key_of
from penult.store.layouts import LAYOUTS, export_store, import_store, layout_named
from penult.store.layouts import rows as rows_module
from penult.store.opening import open_store
from penult.store.spaces.space import Space
from penult.store.spec import FeatureType, SpaceSpec
from penult.store.stores import Store
from penult.store.tables.columns import as_column, kind_of
from penult.store.tables.table import Table

WIDTH = 7
ARROW = ("parquet", "clip")
SUFFIX = {"h5": ".h5", "parquet": ".parquet"}


def spec_of(dtype: FeatureType = "float16") -> SpaceSpec:
    return SpaceSpec("lite0", "ab" * 32, "penultimate", WIDTH, dtype=dtype, card={"source": "a test"})


def table_of(count: int) -> Table:
    paths = tuple(f"/images/{'ä' if number % 2 else 'a'}/{number:03d}.jpg" for number in range(count))
    cells = range(count)
    return Table(
        key_array(key_of(path.encode()) for path in paths),
        paths,
        {
            "label": as_column([["ant", "Bär", None][number % 3] for number in cells]),
            "group": as_column([f"slide {number // 4}/.." for number in cells]),
            "weight": as_column([number / 7 if number % 5 else float("nan") for number in cells]),
            "count": as_column([number if number % 4 else None for number in cells]),
            "big": as_column([2**60 + number if number else None for number in cells]),
            "is_sharp": as_column([number % 2 == 0 for number in cells]),
            "is/seen.": as_column([None if number % 6 == 5 else number % 2 == 0 for number in cells]),
        },
    )


def features_of(keys: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows = [np.random.default_rng(list(key)).standard_normal(WIDTH) for key in keys]
    return np.array(rows, np.float32).reshape(-1, WIDTH).astype(np.float16).astype(np.float32)


def filled(path: Path, table: Table, dtype: FeatureType = "float16") -> tuple[Store, Space]:
    store = open_store(path)
    space = store.space(spec_of(dtype))
    if len(table):
        space.add(table.keys, features_of(table.keys))
    return store, space


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "BLOCK_ROWS", 5)


def target(folder: Path, layout: str) -> Path:
    return folder / f"out{SUFFIX.get(layout, '')}"


def needs(layout: str) -> None:
    if layout in ARROW:
        pytest.importorskip("pyarrow")


def plain(column: NDArray[Any]) -> Any:
    return kind_of(column), repr(column.tolist())


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_export_imports_exactly(layout: str, dtype: FeatureType, tmp_path: Path) -> None:
    needs(layout)
    table = table_of(23)
    store, space = filled(tmp_path / "store", table, dtype)
    steps: list[tuple[int, int]] = []
    exported = export_store(
        store, target(tmp_path, layout), layout=layout, dataset=table, progress=lambda *step: steps.append(step)
    )
    assert (exported.rows, exported.left_out, exported.path) == (23, 0, target(tmp_path, layout))
    assert steps[-1] == (23, 23)
    other = open_store(tmp_path / "other")
    imported = import_store(other, exported.path)
    assert (imported.rows, imported.space.spec, imported.space.spec.card) == (23, space.spec, space.spec.card)
    assert len(imported.space) == 23
    assert np.array_equal(imported.space.gather(table.keys), space.gather(table.keys))
    assert imported.dataset is not None
    assert imported.dataset.name == "out"
    order = [imported.dataset.paths.index(path) for path in table.paths]
    back = imported.dataset.select(np.array(order))
    assert np.array_equal(back.keys, table.keys)
    wanted = ["group"] if layout in {"clam", "trident", "stamp"} else table.columns
    for name in wanted:
        if layout == "npy" and name in {"count", "big"}:
            assert back.columns[name].tolist() == table.columns[name].tolist()
            continue
        assert plain(back.columns[name]) == plain(table.columns[name]), name
    assert set(wanted) == set(back.columns)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_importing_twice_changes_nothing(layout: str, tmp_path: Path) -> None:
    needs(layout)
    table = table_of(6)
    store, space = filled(tmp_path / "store", table)
    export_store(store, target(tmp_path, layout), layout=layout, dataset=table)
    for _ in range(2):
        imported = import_store(store, target(tmp_path, layout), layout=layout, dataset="back")
        assert len(space) == 6
        assert imported.dataset is not None
        assert (imported.dataset.name, imported.dataset.version) == ("back", 1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_space_exports_with_recorded_paths(layout: str, tmp_path: Path) -> None:
    needs(layout)
    table = table_of(13)
    store, space = filled(tmp_path / "store", table)
    keys = table.key_bytes()
    store.catalog.files.record(SeenFile(path, 1, 1, key) for path, key in zip(table.paths[:12], keys, strict=False))
    store.catalog.files.record([SeenFile("/images/a/000 (copy).jpg", 1, 1, keys[0])])
    assert export_store(store, target(tmp_path, layout), layout=layout).rows == 13
    imported = import_store(open_store(tmp_path / "other"), target(tmp_path, layout))
    assert np.array_equal(imported.space.load().features, space.load().features)
    assert imported.dataset is not None
    found = dict(zip(imported.dataset.key_bytes(), imported.dataset.paths, strict=True))
    assert found == {
        **dict(zip(keys, table.paths, strict=True)),
        keys[0]: "/images/a/000 (copy).jpg",
        keys[12]: "",
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_space_exports_and_imports(layout: str, tmp_path: Path) -> None:
    needs(layout)
    store, space = filled(tmp_path / "store", table_of(0))
    export_store(store, target(tmp_path, layout), layout=layout)
    if layout in {"clam", "trident", "stamp"}:  # without a slide there is no file, so the folder has no layout
        assert not list(target(tmp_path, layout).iterdir())
        return
    imported = import_store(open_store(tmp_path / "other"), target(tmp_path, layout), layout=layout)
    assert (imported.rows, imported.space.spec, imported.dataset) == (0, space.spec, None)


def test_an_image_at_two_paths_gives_two_rows_of_one_key(tmp_path: Path) -> None:
    table = table_of(4).select(np.array([0, 1, 1, 2, 3]))
    twice = Table(
        table.keys, (*table.paths[:2], "/images/copy.jpg", *table.paths[3:]), {"label": table.columns["label"]}
    )
    store, _ = filled(tmp_path / "store", table_of(4))
    for layout in ("h5", "npy"):
        (tmp_path / layout).mkdir()
        export_store(store, target(tmp_path / layout, layout), layout=layout, dataset=twice)
        imported = import_store(open_store(tmp_path / f"{layout} store"), target(tmp_path / layout, layout))
        assert (len(imported.space), imported.rows) == (4, 5)
        assert imported.dataset is not None
        assert imported.dataset.paths == twice.paths


def test_rows_without_features_are_left_out_and_counted(tmp_path: Path) -> None:
    table = table_of(10)
    store, _ = filled(tmp_path / "store", table.select(np.arange(7)))
    exported = export_store(store, tmp_path / "out.h5", dataset=table)
    assert (exported.rows, exported.left_out) == (7, 3)
    assert "3 rows of the dataset have no features in lite0:penultimate" in exported.notes[0]


def test_h5py_reads_the_plain_file_in_one_line(tmp_path: Path) -> None:
    table = table_of(23)
    store, space = filled(tmp_path / "store", table)
    export_store(store, tmp_path / "out.h5", dataset=table)
    features = h5py.File(tmp_path / "out.h5")["features"][:]
    assert features.dtype == np.dtype("<f4")
    assert np.array_equal(features, space.gather(table.keys))
    with h5py.File(tmp_path / "out.h5") as file:
        assert np.array_equal(file["keys"][:], table.keys)
        assert tuple(file["paths"].asstr()[:]) == table.paths
        assert file["labels"].asstr()[:3].tolist() == ["ant", "Bär", ""]
        assert set(file) == {"features", "keys", "paths", "labels", "columns", "space"}
        assert file["columns/weight"].dtype == np.float64
        for name in ("paths", "labels"):
            kind = h5py.check_string_dtype(file[name].dtype)
            assert (kind.encoding, kind.length) == ("utf-8", None)
        assert json.loads(file["space"][()])["fingerprint"] == "ab" * 32


def test_the_clip_layout_reads_the_way_clip_retrieval_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("penult.store.layouts.arrow.SHARD_ROWS", 10)
    table = table_of(23)
    store, space = filled(tmp_path / "store", table)
    export_store(store, tmp_path / "out", layout="clip", dataset=table)
    parts = [np.load(tmp_path / f"out/img_emb/img_emb_{number}.npy", mmap_mode="r") for number in range(3)]
    assert [(part.shape, part.dtype) for part in parts] == [((rows, 7), np.float16) for rows in (10, 10, 3)]
    assert np.array_equal(np.concatenate(parts).astype(np.float32), space.gather(table.keys))
    paths = [pq.read_table(tmp_path / f"out/metadata/metadata_{number}.parquet")["image_path"] for number in range(3)]
    assert [path.as_py() for part in paths for path in part] == list(table.paths)


def test_parquet_contains_vectors_of_fixed_length(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    table = table_of(9)
    store, space = filled(tmp_path / "store", table)
    export_store(store, tmp_path / "out.parquet", layout="parquet", dataset=table)
    found = pq.read_table(tmp_path / "out.parquet")
    assert np.array_equal(np.stack(found["features"].to_numpy()), space.gather(table.keys))
    assert found["key"].to_pylist() == table.key_bytes()
    assert found.schema.field("features").type.list_size == WIDTH


@pytest.mark.parametrize(
    ("layout", "name", "chunk", "coords"),
    [("clam", "features", 32, "i4"), ("trident", "features", 1, "i8"), ("stamp", "feats", 128, "f4")],
)
def test_a_slide_file_has_the_format_of_its_program(
    layout: str, name: str, chunk: int, coords: str, tmp_path: Path
) -> None:
    table = table_of(12).with_columns(
        group=np.array(["a", "a", "b"] * 4), x=np.arange(12) * 256, y=np.arange(12) * 512, patch_size=np.full(12, 256)
    )
    store, space = filled(tmp_path / "store", table)
    exported = export_store(store, tmp_path / "out", layout=layout, dataset=table)
    assert not exported.notes
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.h5", "b.h5"]
    rows = np.flatnonzero(table.columns["group"] == "a")
    with h5py.File(tmp_path / "out/a.h5") as file:
        assert np.array_equal(file[name][:], space.gather(table.keys[rows]))
        assert (file[name].chunks, file[name].dtype) == ((chunk, WIDTH), np.float32)
        assert file["coords"].dtype == np.dtype(coords)
        assert file["coords"][:].tolist() == [[256 * row, 512 * row] for row in rows]
        assert "meaning" not in file["coords"].attrs
        if layout == "trident":
            assert dict(file[name].attrs) == {"name": "a", "savetodir": ".", "encoder": "lite0:penultimate"}
            assert file["coords"].attrs["patch_size"] == 256
            assert "patch_size_level0" not in file["coords"].attrs
        if layout == "stamp":
            assert file.attrs["extractor"] == "lite0:penultimate"
    imported = import_store(open_store(tmp_path / "other"), tmp_path / "out")
    assert imported.layout == layout
    assert imported.dataset is not None
    order = np.array([imported.dataset.paths.index(path) for path in table.paths])
    assert imported.dataset.columns["x"][order].tolist() == (np.arange(12) * 256).tolist()


def test_unknown_positions_are_marked_and_not_imported(tmp_path: Path) -> None:
    full = table_of(5)
    table = Table(full.keys, full.paths, {name: full.columns[name] for name in full.columns if name != "group"})
    store, _ = filled(tmp_path / "store", table)
    exported = export_store(store, tmp_path / "out", layout="clam", dataset=table)
    assert exported.notes == (
        "coords are zeros in every file and marked 'unknown: the dataset has no columns x and y'",
        "the dataset has no groups, so each image becomes a file with one row",
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{number:03d}.h5" for number in range(5)]
    with h5py.File(tmp_path / "out/000.h5") as file:
        assert file["coords"][:].tolist() == [[0, 0]]
        assert file["coords"].attrs["meaning"].startswith("unknown")
    imported = import_store(store, tmp_path / "out")
    assert imported.dataset is not None
    assert set(imported.dataset.columns) == {"group"}


@pytest.mark.parametrize(
    "group", ["../../escape", "/etc/passwd", "..", ".", "a\\b", "C:x", "nul\n", "a" * 500, " ", "ä?*"]
)
def test_a_group_name_stays_in_the_export_folder(group: str, tmp_path: Path) -> None:
    table = table_of(3).with_columns(group=np.array([group] * 3))
    store, _ = filled(tmp_path / "store", table)
    export_store(store, tmp_path / "out", layout="clam", dataset=table)
    (path,) = (path for path in tmp_path.rglob("*.h5") if "store" not in path.parts)
    assert path.parent == tmp_path / "out"
    assert len(path.name) < 200
    imported = import_store(open_store(tmp_path / "other"), tmp_path / "out")
    assert imported.dataset is not None
    assert set(imported.dataset.columns["group"]) == {group}


def test_groups_with_colliding_names_get_separate_files(tmp_path: Path) -> None:
    table = Table(table_of(3).keys, ("/a/x.jpg", "/b/x.jpg", "/c/y.jpg"), {"group": as_column([None, None, "x"])})
    store, _ = filled(tmp_path / "store", table)
    export_store(store, tmp_path / "out", layout="clam", dataset=table)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x.h5", "x_.h5", "x__.h5"]


def test_a_store_with_several_spaces_needs_the_name_of_one(tmp_path: Path) -> None:
    store, space = filled(tmp_path / "store", table_of(3))
    empty = open_store(tmp_path / "empty")
    with pytest.raises(InputError, match=r"has 0 spaces.*run extract first"):
        export_store(empty, tmp_path / "out.h5")
    store.space(spec_of("float32"))
    with pytest.raises(InputError, match=r"has 2 spaces: lite0:penultimate.*name the space"):
        export_store(store, tmp_path / "out.h5")
    assert export_store(store, tmp_path / "out.h5", space=space).rows == 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_failed_export_leaves_nothing(layout: str, tmp_path: Path) -> None:
    needs(layout)
    table = table_of(9)
    store, _ = filled(tmp_path / "store", table)

    def stop(done: int, _: int) -> None:
        if done > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_store(store, target(tmp_path, layout), layout=layout, dataset=table, progress=stop)
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_an_export_does_not_overwrite(tmp_path: Path) -> None:
    store, _ = filled(tmp_path / "store", table_of(3))
    (tmp_path / "out.h5").write_bytes(b"precious")
    with pytest.raises(InputError, match="exists already"):
        export_store(store, tmp_path / "out.h5")
    assert (tmp_path / "out.h5").read_bytes() == b"precious"
    with pytest.raises(InputError, match=r"does not end in \.h5"):
        export_store(store, tmp_path / "out.hdf")
    with pytest.raises(UnknownNameError, match="did you mean 'clam'"):
        export_store(store, tmp_path / "out", layout="calm")


def test_an_export_that_does_not_fit_raises_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = filled(tmp_path / "store", table_of(3))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(StoreWriteError, match="0 MiB free"):
        export_store(store, tmp_path / "out.h5")


def test_without_pyarrow_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = filled(tmp_path / "store", table_of(3))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for layout in ARROW:
        with pytest.raises(MissingExtraError, match=r"penult\[parquet\]"):
            export_store(store, target(tmp_path, layout), layout=layout)
    assert not list(tmp_path.glob("out*"))


def foreign_h5(path: Path, features: NDArray[Any], **datasets: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["features"] = features
        for name, values in datasets.items():
            file[name] = values
    return path


ROWS = np.arange(4 * WIDTH, dtype=np.float32).reshape(4, WIDTH)
NAMES = ["a.jpg", "b/ä.jpg", "c.jpg", "d.jpg"]


def write_names(path: Path) -> Path:
    path.mkdir()
    np.save(path / "features.npy", ROWS)
    (path / "file_names.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return path


def write_parquet(path: Path) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"path": NAMES, "embedding": list(ROWS), "label": [1, 2, None, 1]}), path)
    return path


def write_clip(path: Path) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (path / "img_emb").mkdir(parents=True)
    (path / "metadata").mkdir()
    for number, part in enumerate((slice(0, 3), slice(3, 4))):
        np.save(path / f"img_emb/img_emb_{number}.npy", ROWS[part])
        pq.write_table(
            pa.table({"image_path": NAMES[part], "caption": NAMES[part]}), path / f"metadata/metadata_{number}.parquet"
        )
    return path


FOREIGN: dict[str, Callable[[Path], Path]] = {
    "h5": lambda folder: foreign_h5(folder / "their.h5", ROWS, paths=NAMES, labels=[1, 2, 2, 1]),
    "npy": lambda folder: write_names(folder / "their"),
    "parquet": lambda folder: write_parquet(folder / "their.parquet"),
    "clip": lambda folder: write_clip(folder / "their"),
}


@pytest.mark.parametrize("layout", FOREIGN)
def test_imported_rows_get_the_keys_of_their_images(layout: str, tmp_path: Path) -> None:
    source = FOREIGN[layout](tmp_path)
    (tmp_path / "images/b").mkdir(parents=True)
    for name in NAMES:
        (tmp_path / "images" / name).write_bytes(b"image " + name.encode())
    store = open_store(tmp_path / "store")
    imported = import_store(store, source, backbone="clip-vit", images=tmp_path / "images")
    assert (imported.layout, imported.space.spec.backbone, imported.space.spec.dtype) == (layout, "clip-vit", "float32")
    assert not imported.notes
    keys = [key_of(b"image " + name.encode()) for name in NAMES]
    assert np.array_equal(imported.space.gather(keys), ROWS)
    assert imported.dataset is not None
    assert imported.dataset.paths == tuple(NAMES)
    assert imported.dataset.name == "their"


@pytest.mark.parametrize("layout", FOREIGN)
def test_imported_rows_without_images_get_keys_of_their_names_and_a_note(layout: str, tmp_path: Path) -> None:
    source = FOREIGN[layout](tmp_path)
    store = open_store(tmp_path / "store")
    imported = import_store(store, source, backbone="clip-vit")
    assert (imported.rows, len(imported.space)) == (4, 4)
    assert "4 rows have keys made from their names" in imported.notes[0]
    assert imported.dataset is not None
    assert np.array_equal(imported.space.gather(imported.dataset.keys), ROWS)
    again = import_store(store, source, backbone="clip-vit")
    assert len(again.space) == 4
    assert again.space.spec.id != store.space(SpaceSpec("x", "0" * 64, "features", WIDTH)).spec.id
    with pytest.raises(InputError, match=r"does not say what made its features.*name the backbone"):
        import_store(store, source)


def test_vectors_without_names_get_the_names_of_their_files(tmp_path: Path) -> None:
    (tmp_path / "their").mkdir()
    for name, row in zip(NAMES, ROWS, strict=True):
        np.save(tmp_path / "their" / name.replace("/", "-").replace(".jpg", ".npy"), row)
    np.save(tmp_path / "their/more.npy", ROWS.astype(np.float16) + 100)
    imported = import_store(open_store(tmp_path / "store"), tmp_path / "their", backbone="x")
    assert imported.dataset is not None
    assert imported.dataset.paths == ("a", "b-ä", "c", "d", "more:0", "more:1", "more:2", "more:3")
    assert np.array_equal(imported.space.gather(imported.dataset.keys), np.vstack([ROWS, ROWS + 100]))


def test_a_backbone_that_contradicts_the_file_raises(tmp_path: Path) -> None:
    store, _ = filled(tmp_path / "store", table_of(3))
    export_store(store, tmp_path / "out.h5")
    assert import_store(store, tmp_path / "out.h5", backbone="lite0").rows == 3
    with pytest.raises(InputError, match="states the backbone lite0"):
        import_store(store, tmp_path / "out.h5", backbone="resnet50")
    with h5py.File(tmp_path / "out.h5", "a") as file:
        del file["features"]
        file["features"] = np.zeros((3, 4), np.float32)
    with pytest.raises(InputError, match=r"rows of 4 numbers. Expected: 7"):
        import_store(store, tmp_path / "out.h5")


def test_rows_that_are_not_finite_raise(tmp_path: Path) -> None:
    source = foreign_h5(tmp_path / "their.h5", np.full((2, WIDTH), np.nan, np.float32))
    with pytest.raises(RowsRefusedError):
        import_store(open_store(tmp_path / "store"), source, backbone="x")


def test_a_file_without_a_known_layout_raises(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    with pytest.raises(MissingFileError):
        import_store(store, tmp_path / "nothing.h5")
    (tmp_path / "their.pt").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"has no known layout.*h5, parquet, clip"):
        import_store(store, tmp_path / "their.pt")
    (tmp_path / "their.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        import_store(store, tmp_path / "their.h5", backbone="x")


def test_every_layout_has_a_class() -> None:
    for name in LAYOUTS:
        assert layout_named(name).suffix == SUFFIX.get(name, "")


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_exports_use_memory_for_one_block(layout: str, tmp_path: Path) -> None:
    needs(layout)
    script = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        import penult.store.layouts.rows
        from penult.store.layouts import export_store, import_store
        from penult.store.spec import SpaceSpec
        from penult.store import open_store
        from penult.store.tables.table import Table
        penult.store.layouts.rows.BLOCK_BYTES = 4 << 20
        folder, layout, rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
        store = open_store(folder / "store")
        space = store.space(SpaceSpec("x", "0" * 64, "penultimate", 1024))
        rng = np.random.default_rng(0)
        keys = rng.integers(0, 256, (rows, 16), np.uint8)
        for start in range(0, rows, 1024):
            some = keys[start : start + 1024]
            space.add(some, rng.standard_normal((len(some), 1024), np.float32))
        out = folder / ("out" + {"h5": ".h5", "parquet": ".parquet"}.get(layout, ""))
        table = Table(keys, tuple(f"{n}.jpg" for n in range(rows)), {"group": [str(n // 10_000) for n in range(rows)]})
        export_store(store, out, layout=layout, dataset=table)
        import_store(open_store(folder / "other"), out)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    """
    peaks = []
    for rows in (2_000, 22_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), folder, layout, str(rows)],
            stdout=subprocess.PIPE,
            check=True,
        )
        peaks.append(int(done.stdout))
    # 20,000 more rows are 82 MB as float32.
    assert peaks[1] - peaks[0] < 40, peaks
