"""Untrusted files: they run no code, reach no other file, and use no more memory than their size."""

import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from penult.errors import InputError
from penult.store.keys import key_of
from penult.store.layouts import import_store
from penult.store.opening import open_store
from penult.store.stores import Store

ROWS = np.ones((4, 8), np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def h5_with(make: Callable[[h5py.File, Path], None]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with h5py.File(folder / "secret.h5", "w") as secret:
            secret["features"] = ROWS
            secret["paths"] = ["secret"] * 4
        (folder / "secret.bin").write_bytes(ROWS.tobytes())
        with h5py.File(folder / "their.h5", "w") as file:
            make(file, folder)
        return folder / "their.h5"

    return write


def soft(file: h5py.File, _: Path) -> None:
    file["real"] = ROWS
    file["features"] = h5py.SoftLink("/real")


def external(file: h5py.File, folder: Path) -> None:
    file["features"] = h5py.ExternalLink(str(folder / "secret.h5"), "/features")


def raw_elsewhere(file: h5py.File, folder: Path) -> None:
    file.create_dataset("features", (4, 8), "<f4", external=[(str(folder / "secret.bin"), 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((4, 8), "<f4")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "features", (4, 8))
    file.create_virtual_dataset("features", layout)


def external_paths(file: h5py.File, folder: Path) -> None:
    file["features"] = ROWS
    file["paths"] = h5py.ExternalLink(str(folder / "secret.h5"), "/paths")


def external_columns(file: h5py.File, folder: Path) -> None:
    file["features"] = ROWS
    file["columns"] = h5py.ExternalLink(str(folder / "secret.h5"), "/")


def external_column(file: h5py.File, folder: Path) -> None:
    file["features"] = ROWS
    file.create_group("columns")["x"] = h5py.ExternalLink(str(folder / "secret.h5"), "/paths")


def external_space(file: h5py.File, folder: Path) -> None:
    file["features"] = ROWS
    file["space"] = h5py.ExternalLink(str(folder / "secret.h5"), "/paths")


def endless(file: h5py.File, _: Path) -> None:
    file.create_dataset("features", (1 << 50, 8), "<f4", chunks=(1024, 8))


def endless_contiguous(file: h5py.File, _: Path) -> None:
    file.create_dataset("features", (1 << 40, 8), "<f4")


def huge_chunk(file: h5py.File, _: Path) -> None:
    file.create_dataset("features", (1 << 26, 8), "<f4", chunks=(1 << 26, 8), compression="gzip")


def huge_cell(file: h5py.File, _: Path) -> None:
    file["features"] = ROWS
    file.create_dataset("paths", (4,), "S1000000000", chunks=(1,), compression="gzip")


def endless_names(file: h5py.File, _: Path) -> None:
    file["features"] = ROWS
    file.create_dataset("paths", (1 << 40,), h5py.string_dtype(), chunks=(1024,))


def wrong_type(file: h5py.File, _: Path) -> None:
    file["features"] = np.array([[b"text"] * 8] * 4)


def wrong_shape(file: h5py.File, _: Path) -> None:
    file["features"] = ROWS.reshape(2, 2, 8)


def a_group(file: h5py.File, _: Path) -> None:
    file.create_group("features")


def wrong_keys(file: h5py.File, _: Path) -> None:
    file["features"] = ROWS
    file["keys"] = np.zeros((4, 8), np.uint8)


def too_few_keys(file: h5py.File, _: Path) -> None:
    file["features"] = ROWS
    file["keys"] = np.zeros((3, 16), np.uint8)


def pair_columns(file: h5py.File, _: Path) -> None:
    file["features"] = ROWS
    file.create_group("columns")["x"] = np.zeros(4, [("a", "i4"), ("b", "i4")])


def broken_space(file: h5py.File, _: Path) -> None:
    file["features"] = ROWS
    file["space"] = "{'no': json"


HDF5 = {
    make.__name__: (h5_with(make), words)
    for make, words in [
        (soft, "is a link"),
        (external, "is a link"),
        (raw_elsewhere, "stores its data in other files"),
        (virtual, "stores its data in other files"),
        (external_paths, "is a link"),
        (external_columns, "is a link"),
        (external_column, "is a link"),
        (external_space, "is a link"),
        (endless, "declares 36028797018963968 bytes and contains 0"),
        (endless_contiguous, "declares .* bytes and contains 0"),
        (huge_chunk, "has chunks of 2147483648 bytes"),
        (huge_cell, "(has chunks of|values of) 1000000000 bytes"),
        (endless_names, "declares .* bytes and contains 0"),
        (wrong_type, "expected|Expected: numbers of shape"),
        (wrong_shape, "Expected: numbers of shape"),
        (a_group, "no dataset 'features'"),
        (wrong_keys, "Expected: uint8 of shape"),
        (too_few_keys, "keys has the shape"),
        (pair_columns, "Expected: numbers or text"),
        (broken_space, "description of the space cannot be read"),
    ]
}


@pytest.mark.parametrize("name", HDF5)
def test_a_hostile_hdf5_file_raises(name: str, store: Store, tmp_path: Path) -> None:
    make, words = HDF5[name]
    with pytest.raises(InputError, match=words):
        import_store(store, make(tmp_path), backbone="x")
    assert not any(len(space) for space in store.spaces())


@pytest.mark.parametrize(
    "name", ["soft", "external", "raw_elsewhere", "virtual", "endless", "huge_chunk", "wrong_keys"]
)
@pytest.mark.parametrize("feature_name", ["features", "feats"])
def test_a_hostile_slide_raises(name: str, feature_name: str, store: Store, tmp_path: Path) -> None:
    source = HDF5[name][0](tmp_path)
    if feature_name == "feats":
        with h5py.File(source, "a") as file:
            file.move("features", "feats")
    (tmp_path / "slides").mkdir()
    source.rename(tmp_path / "slides/a.h5")
    with pytest.raises(InputError):
        import_store(store, tmp_path / "slides", layout="clam", backbone="x")
    assert not any(len(space) for space in store.spaces())


def test_a_file_truncated_to_any_length_raises(store: Store, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["features"] = ROWS
        file["paths"] = ["a", "b", "c", "d"]
    whole = (tmp_path / "whole.h5").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "their.h5").write_bytes(whole[:length])
        with pytest.raises(InputError):
            import_store(store, tmp_path / "their.h5", backbone="x")


class Trap:
    def __reduce__(self) -> Any:
        return (Path("/tmp/penult-trap").touch, ())


def header(shape: Any, descr: str = "<f4", is_by_columns: bool = False) -> bytes:
    text = repr({"descr": descr, "fortran_order": is_by_columns, "shape": shape})
    body = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


NPY: dict[str, tuple[Callable[[], bytes], str]] = {
    "pickle": (lambda: pickle.dumps(Trap()), "not a .npy file of numbers"),
    "objects": (lambda: header((4, 8), "|O") + pickle.dumps(Trap()), "Expected: numbers of shape"),
    "expression": (lambda: header("__import__('os')") + b"", "not a .npy file of numbers"),
    "endless": (lambda: header((1 << 50, 8)), "contains 0 bytes of numbers"),
    "negative": (lambda: header((-4, 8)), "contains 0 bytes|not a .npy file"),
    "short": (lambda: header((4, 8)) + ROWS.tobytes()[:-1], "contains 127 bytes of numbers"),
    "long": (lambda: header((4, 8)) + ROWS.tobytes() + b"x", "contains 129 bytes of numbers"),
    "columns": (lambda: header((4, 8), is_by_columns=True) + ROWS.tobytes(), "column by column"),
    "three": (lambda: header((2, 2, 8)) + ROWS.tobytes(), "Expected: numbers of shape"),
    "text": (lambda: header((4, 8), "<U1") + ROWS.tobytes(), "Expected: numbers of shape"),
    "nothing": (lambda: b"", "not a .npy file of numbers"),
    "long header": (lambda: b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little") + b"x" * 100, "not a .npy file"),
}


@pytest.mark.parametrize("name", NPY)
def test_a_hostile_npy_file_raises(name: str, store: Store, tmp_path: Path) -> None:
    make, words = NPY[name]
    (tmp_path / "their").mkdir()
    (tmp_path / "their/a.npy").write_bytes(make())
    with pytest.raises(InputError, match=words):
        import_store(store, tmp_path / "their", backbone="x")
    assert not Path("/tmp/penult-trap").exists()


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/hostname", "b/../../secret.jpg", "link.jpg"])
def test_a_name_outside_the_image_folder_raises(name: str, store: Store, tmp_path: Path) -> None:
    (tmp_path / "images/b").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "images/link.jpg").symlink_to(tmp_path / "secret.jpg")
    with h5py.File(tmp_path / "their.h5", "w") as file:
        file["features"], file["paths"] = ROWS[:1], [name]
    with pytest.raises(InputError, match="Expected: an image inside"):
        import_store(store, tmp_path / "their.h5", backbone="x", images=tmp_path / "images")
    assert not any(key_of(b"secret") in space for space in store.spaces())


def test_the_error_names_a_missing_image(store: Store, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "their.h5", "w") as file:
        file["features"], file["paths"] = ROWS[:1], ["a.jpg"]
    with pytest.raises(InputError, match=r"names 'a.jpg', but"):
        import_store(store, tmp_path / "their.h5", backbone="x", images=tmp_path)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"path": ["a"]}, "no column of features.*one of features, embedding"),
        ({"features": ["a"]}, "contains string"),
        ({"features": [[1, 2]]}, "Expected: lists of numbers"),
        ({"features": [[1.0, 2.0], [1.0]]}, "lists of different lengths"),
        ({"features": [[1.0, None], [1.0, 2.0]]}, "or missing values"),
        ({"features": [[1.0, 2.0], None]}, "lists of different lengths"),
        ({"features": [[1.0, 2.0]], "key": [b"short"]}, "are not keys"),
        ({"features": [[1.0, 2.0]], "key": ["xyz"]}, "are not keys"),
        ({"features": [[]]}, "Expected: lists of numbers"),
        ({"features": [[1.0]][:0]}, "Expected: lists of numbers"),
    ],
)
def test_a_parquet_file_without_features_raises(table: Any, words: str, store: Store, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(table), tmp_path / "their.parquet")
    with pytest.raises(InputError, match=words):
        import_store(store, tmp_path / "their.parquet", backbone="x")


def test_clip_shards_without_metadata_raise(store: Store, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for name in ("img_emb", "metadata"):
        (tmp_path / "their" / name).mkdir(parents=True)
    np.save(tmp_path / "their/img_emb/img_emb_0.npy", ROWS)
    with pytest.raises(InputError, match=r"needs .*metadata_0\.parquet"):
        import_store(store, tmp_path / "their", backbone="x")
    pq.write_table(pa.table({"image_path": ["a"]}), tmp_path / "their/metadata/metadata_0.parquet")
    with pytest.raises(InputError, match=r"has 1 rows. Expected: 4"):
        import_store(store, tmp_path / "their", backbone="x")
    (tmp_path / "their/img_emb/img_emb_0.npy").unlink()
    with pytest.raises(InputError, match="contains no shard"):
        import_store(store, tmp_path / "their", layout="clip", backbone="x")


def test_an_exported_folder_that_lost_a_file_raises(store: Store, tmp_path: Path) -> None:
    (tmp_path / "their").mkdir()
    np.save(tmp_path / "their/a.npy", ROWS)
    np.save(tmp_path / "their/b.npy", ROWS[:, :5])
    with pytest.raises(InputError, match="rows of 2 widths"):
        import_store(store, tmp_path / "their", backbone="x")
    (tmp_path / "their/b.npy").unlink()
    (tmp_path / "their/file_names.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match=r"names 2 images\. Expected: 4"):
        import_store(store, tmp_path / "their", backbone="x")


def test_a_hostile_file_uses_little_memory(tmp_path: Path) -> None:
    h5_with(endless_names)(tmp_path)
    script = """
        import resource, sys
        from pathlib import Path
        from penult.errors import InputError
        from penult.store.layouts import import_store
        from penult.store import open_store
        store = open_store(Path(sys.argv[1], "store"))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            import_store(store, Path(sys.argv[1], "their.h5"), backbone="x")
        except InputError:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), tmp_path], stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) < 100_000
