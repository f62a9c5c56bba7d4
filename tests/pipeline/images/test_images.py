"""Listing finds every file once, with the label and split of its folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from penult.errors import InputError, MissingFileError
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.listing import list_images


def _touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def _found(root: Path) -> dict[str, tuple[str | None, str | None]]:
    return {Path(file.path).relative_to(root).as_posix(): (file.split, file.label) for file in list_images(root)}


def test_folders_are_classes(tmp_path: Path) -> None:
    _touch(tmp_path, "cat/a.jpg", "cat/deep/er/b.png", "dog/c.jpg", "loose.jpg")
    assert _found(tmp_path) == {
        "cat/a.jpg": (None, "cat"),
        "cat/deep/er/b.png": (None, "cat"),
        "dog/c.jpg": (None, "dog"),
        "loose.jpg": (None, None),
    }


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [("train", "val", "val"), ("Training", "VALID", "val"), ("TRAIN", "validation", "val"), ("train", "Test", "test")],
)
def test_split_folders_are_recognised_in_any_spelling(tmp_path: Path, train: str, other: str, split: str) -> None:
    _touch(tmp_path, f"{train}/cat/a.jpg", f"{other}/cat/b.jpg", f"{other}/dog/c.jpg")
    assert _found(tmp_path) == {
        f"{train}/cat/a.jpg": ("train", "cat"),
        f"{other}/cat/b.jpg": (split, "cat"),
        f"{other}/dog/c.jpg": (split, "dog"),
    }


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    _touch(tmp_path, "train/a.jpg", "car/b.jpg")
    assert _found(tmp_path) == {"train/a.jpg": (None, "train"), "car/b.jpg": (None, "car")}


def test_split_folders_without_class_folders_are_labels(tmp_path: Path) -> None:
    """Without class folders in them, ``train`` and ``test`` can only be labels."""
    _touch(tmp_path, "train/a.jpg", "test/b.jpg")
    assert _found(tmp_path) == {"train/a.jpg": (None, "train"), "test/b.jpg": (None, "test")}


def test_a_flat_test_folder_next_to_class_folders_has_no_labels(tmp_path: Path) -> None:
    """The layout of competitions: class folders for training next to a flat folder of unlabelled images."""
    _touch(tmp_path, "train/cat/a.jpg", "train/dog/b.jpg", "test/c.jpg")
    assert _found(tmp_path) == {
        "train/cat/a.jpg": ("train", "cat"),
        "train/dog/b.jpg": ("train", "dog"),
        "test/c.jpg": ("test", None),
    }


def test_only_system_and_hidden_files_are_skipped(tmp_path: Path) -> None:
    _touch(tmp_path, "a/.hidden.jpg", "a/Thumbs.db", ".git/x.jpg", "a/.DS_Store", "a/notes.txt", "a/noextension")
    assert set(_found(tmp_path)) == {"a/notes.txt", "a/noextension"}


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    _touch(tmp_path, "real/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "real" / "self").symlink_to("self")
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    found = _found(tmp_path)
    assert {"real/a.jpg", "elsewhere/b.jpg", "linked/b.jpg", "real/self"} == set(found)


def test_a_link_to_itself_is_a_file_that_fails_later(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg")
    (tmp_path / "self").symlink_to("self")
    assert [(Path(file.path).name, file.size) for file in list_images(tmp_path)] == [("a.jpg", 5), ("self", -1)]


def test_folders_can_be_deeper_than_the_recursion_limit(tmp_path: Path) -> None:
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(sys.getrecursionlimit() + 50):
            Path("d").mkdir()
            os.chdir("d")
        Path("a.jpg").touch()
    finally:
        os.chdir(here)
    found = [Path(file.path).name for file in list_images(tmp_path)]
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # pytest cannot remove folders this deep
    assert found == ["a.jpg"]


def test_a_store_in_the_image_folder_is_skipped(tmp_path: Path) -> None:
    _touch(tmp_path, "a/x.jpg", "store.json", "penult-store/store.json", "penult-store/catalog.sqlite")
    _touch(tmp_path, "penult-store/spaces/1/space.json", "penult-store/backbones/b.onnx")
    assert set(_found(tmp_path)) == {"a/x.jpg", "store.json"}


def test_files_are_sorted_by_name(tmp_path: Path) -> None:
    _touch(tmp_path, *(f"{folder}/{name}.jpg" for folder in "ba" for name in ("2", "10", "1")))
    assert list(_found(tmp_path)) == ["a/1.jpg", "a/10.jpg", "a/2.jpg", "b/1.jpg", "b/10.jpg", "b/2.jpg"]


def test_files_have_size_and_time_and_a_missing_file_has_none(tmp_path: Path) -> None:
    _touch(tmp_path, "a/b.jpg")
    (file,) = list_images(tmp_path)
    stat = (tmp_path / "a/b.jpg").stat()
    assert (file.size, file.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    (tmp_path / "a/b.jpg").unlink()
    assert ImageFile.at(file.path).size == -1


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything is readable to root")
def test_a_folder_that_cannot_be_read_is_listed_itself(tmp_path: Path) -> None:
    _touch(tmp_path, "a/b.jpg")
    (tmp_path / "a").chmod(0)
    assert [file.path for file in list_images(tmp_path)] == [str(tmp_path / "a")]
    (tmp_path / "a").chmod(0o700)


def test_a_single_file_is_a_source(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg")
    assert [file.path for file in list_images(tmp_path / "a.jpg")] == [str(tmp_path / "a.jpg")]


def test_a_typo_in_a_path_names_the_part_that_exists(tmp_path: Path) -> None:
    _touch(tmp_path, "photos/a.jpg")
    with pytest.raises(MissingFileError, match=r"no folder or file .*typo in 'photso'"):
        list_images(tmp_path / "photso")
    with pytest.raises(MissingFileError, match=r"exists as far as '.*photos'"):
        list_images(tmp_path / "photos" / "x" / "y")


def test_a_table_gives_paths_labels_and_splits(tmp_path: Path) -> None:
    _touch(tmp_path, "img/a.jpg", "img/b.jpg")
    (tmp_path / "t.csv").write_bytes(
        "\ufeffpath;label;split\r\nimg/a.jpg;käse, alt;Training\r\nimg/b.jpg;;test\r\n".encode()
    )
    files = list(list_images(tmp_path / "t.csv"))
    assert [(file.label, file.split) for file in files] == [("käse, alt", "train"), (None, "test")]
    assert [Path(file.path) for file in files] == [tmp_path / "img/a.jpg", tmp_path / "img/b.jpg"]
    assert files[0].size == 9


def test_blanks_and_impossible_paths_in_a_table(tmp_path: Path) -> None:
    """Blanks around a label are ignored, and an impossible path fails later."""
    (tmp_path / "labels.csv").write_text("path,label\na.jpg, cat \nb.jpg,  \n\0.jpg,cat\n")
    assert [(file.label, file.size) for file in list_images(tmp_path / "labels.csv")] == [
        ("cat", -1),
        (None, -1),
        ("cat", -1),
    ]


def test_a_table_without_paths_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,label\na.jpg,x\n")
    with pytest.raises(InputError, match=r"no column 'path'.*file, label"):
        list(list_images(tmp_path / "t.csv"))


def test_an_unknown_split_in_a_table_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label,split\na.jpg,x,trian\n")
    with pytest.raises(InputError, match="'trian'"):
        list(list_images(tmp_path / "t.csv"))
