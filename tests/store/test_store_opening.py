"""Opening and making a store, and the errors for other folders."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from penult.errors import (
    InputError,
    MissingFileError,
    StoreDamagedError,
    StoreError,
    StoreFormatError,
    StoreWriteError,
    UnknownNameError,
)
from penult.store import SpaceSpec, Store, open_store
from penult.store.catalog import Catalog
from penult.store.files.local import LocalPath
from penult.store.store_folder import STORE_FORMAT, put_json
from tests.store.rig.samples import SPEC, add, batches_in, keys_of, rows_of


def with_version(path: Path, kind: str, major: int, minor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads(path.read_bytes())
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("penult.store.store_folder.MAJOR", major)
        patch.setattr("penult.store.store_folder.MINOR", minor)
        put_json(LocalPath(path), kind, {"space": content["space"]} if "space" in content else {})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(tmp_path / "store")
    add(store.space(SPEC), 0)
    return store


def test_open_store_makes_a_store_and_opens_it_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "store"
    add(open_store(path).space(SPEC), 0)
    assert [space.spec for space in open_store(path, create=False).spaces()] == [SPEC]


def test_open_store_makes_a_store_in_a_folder_with_only_hidden_files(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "lost+found").mkdir()
    assert open_store(tmp_path).spaces() == []


def test_a_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="There is no store at"):
        open_store(tmp_path / "nowhere", create=False)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("create", [False, True])
def test_a_folder_with_other_files_raises_and_stays_unchanged(tmp_path: Path, create: bool) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(StoreFormatError, match=r"contains 'holiday.jpg'"):
        open_store(tmp_path, create=create)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("create", [False, True])
def test_a_file_in_place_of_the_folder_raises(tmp_path: Path, create: bool) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreFormatError):
            open_store(path, create=create)


def test_an_empty_folder_raises_without_create(tmp_path: Path) -> None:
    with pytest.raises(StoreFormatError, match="does not contain a store"):
        open_store(tmp_path, create=False)


def test_an_incomplete_new_store_is_completed(tmp_path: Path) -> None:
    (tmp_path / "spaces").mkdir()
    (tmp_path / ("0" * 32 + ".tmp")).write_bytes(b'{"for')
    with pytest.raises(StoreFormatError, match="does not contain a store"):
        open_store(tmp_path, create=False)
    add(open_store(tmp_path).space(SPEC), 0)


def test_an_incomplete_copy_raises(store: Store) -> None:
    (store.path / "store.json").unlink()
    for create in (False, True):
        with pytest.raises(StoreFormatError, match="copy may be incomplete"):
            open_store(store.path, create=create)


def test_a_space_without_its_description_raises_until_its_backbone_writes_it(store: Store) -> None:
    (store.path / "spaces" / SPEC.id / "space.json").unlink()
    with pytest.raises(StoreDamagedError, match=r"no space\.json"):
        store.spaces()
    assert batches_in(store.space(SPEC)) == {0}
    assert [space.spec for space in store.spaces()] == [SPEC]


def test_an_incomplete_new_space_is_not_listed(store: Store) -> None:
    other = SpaceSpec("lite0", "cd" * 32, "penultimate", 3)
    (store.path / "spaces" / other.id / "shards").mkdir(parents=True)
    assert [space.spec for space in store.spaces()] == [SPEC]
    add(store.space(other), 0)
    assert len(store.spaces()) == 2


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff\xfe", b'{"format": "penult-store", "version": 1, "xxh3": 0}']
)
def test_an_unreadable_description_raises(store: Store, content: bytes) -> None:
    (store.path / "store.json").write_bytes(content)
    with pytest.raises(StoreFormatError, match=r"store\.json"):
        open_store(store.path)


def test_another_major_version_raises(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for major, remedy in ((2, "upgrade penult"), (0, "older penult")):
        with_version(store.path / "store.json", STORE_FORMAT, major, 0, monkeypatch)
        with pytest.raises(StoreFormatError, match=rf"version {major}\.0.*{remedy}"):
            open_store(store.path)


@pytest.mark.parametrize("file", ["store.json", f"spaces/{SPEC.id}/space.json"])
def test_a_newer_minor_version_is_readonly(store: Store, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = json.loads((store.path / file).read_bytes())["format"]
    with_version(store.path / file, kind, 1, 7, monkeypatch)
    newer = open_store(store.path)
    space = newer.space(SPEC)
    assert batches_in(space) == {0}
    for write in (lambda: add(space, 1), space.checkpoint, space.compact):
        with pytest.raises(StoreFormatError, match=r"version 1\.7"):
            write()
    assert batches_in(space) == {0}
    if file == "store.json":
        with pytest.raises(StoreFormatError, match=r"version 1\.7"):
            newer.space(SpaceSpec("lite0", "cd" * 32, "penultimate", 3))


def test_a_moved_store_opens(store: Store, tmp_path: Path) -> None:
    store.space(SPEC).checkpoint()
    shutil.move(store.path, tmp_path / "elsewhere")
    space = open_store(tmp_path / "elsewhere", create=False).spaces()[0]
    assert batches_in(space) == {0}
    add(space, 1)
    assert batches_in(space) == {0, 1}


def test_a_copy_without_empty_folders_opens(store: Store, tmp_path: Path) -> None:
    for file in (path for path in store.path.rglob("*") if path.is_file()):
        target = tmp_path / "copy" / file.relative_to(store.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    space = open_store(tmp_path / "copy", create=False).spaces()[0]
    assert batches_in(space) == {0}
    add(space, 1)
    space.compact()
    space.collect(grace_seconds=0)
    assert batches_in(space) == {0, 1}


def test_a_copy_without_some_shards_raises(store: Store, tmp_path: Path) -> None:
    store.space(SPEC).checkpoint()
    shutil.copytree(store.path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "spaces" / SPEC.id / "shards")
    space = open_store(tmp_path / "copy", create=False).spaces()[0]
    with pytest.raises(StoreDamagedError, match="is missing"):
        space.load()


def test_a_linked_store_opens_but_links_inside_raise(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.path)
    space = open_store(tmp_path / "link", create=False).spaces()[0]
    assert batches_in(space) == {0}

    shards = store.path / "spaces" / SPEC.id / "shards"
    shards.rename(tmp_path / "shards")
    shards.symlink_to(tmp_path / "shards")
    with pytest.raises(StoreFormatError, match="symbolic link"):
        open_store(store.path).spaces()


def test_a_linked_shard_raises(store: Store, tmp_path: Path) -> None:
    shard = next((store.path / "spaces" / SPEC.id / "shards").iterdir())
    shard.rename(tmp_path / shard.name)
    shard.symlink_to(tmp_path / shard.name)
    with pytest.raises(StoreDamagedError):
        store.spaces()[0].load()


def test_a_loop_of_links_raises(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("a", "dangling"):
        for create in (False, True):
            with pytest.raises(StoreFormatError):
                open_store(tmp_path / name, create=create)


def test_a_loop_of_links_inside_a_store_raises(store: Store) -> None:
    (store.path / "spaces" / SPEC.id / "trash").rmdir()
    (store.path / "spaces" / SPEC.id / "trash").symlink_to(store.path)
    with pytest.raises(StoreFormatError, match="symbolic link"):
        store.space(SPEC)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "No space left.*free some space"),
        (errno.EROFS, "Read-only.*reading only"),
        (errno.EACCES, "Permission denied.*owner"),
    ],
)
def test_a_failed_write_gives_the_reason_and_leaves_no_file(
    store: Store, number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    space = store.space(SPEC)
    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(StoreWriteError, match=words) as caught:
        add(space, 1)
    assert isinstance(caught.value, StoreError | OSError)
    monkeypatch.undo()
    assert batches_in(space) == {0}
    assert list((space.path / "tmp").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_without_write_permission_is_readable(store: Store) -> None:
    folders = [path for path in store.path.rglob("*") if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        space = open_store(store.path).space(SPEC)
        assert batches_in(space) == {0}
        with pytest.raises(StoreWriteError, match="owner"):
            add(space, 1)
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_find_space_takes_the_name_or_the_fingerprint_of_a_backbone(store: Store) -> None:
    assert store.find_space("lite0").spec == SPEC
    assert store.find_space(SPEC.fingerprint).spec == SPEC
    with pytest.raises(UnknownNameError, match="did you mean 'lite0:penultimate'"):
        store.find_space("lite")
    with pytest.raises(UnknownNameError):
        store.find_space("lite0", "stage1")
    store.space(SpaceSpec("lite0", "cd" * 32, "penultimate", 3))
    with pytest.raises(InputError, match="2 spaces"):
        store.find_space("lite0")


def test_add_backbone_saves_a_file_and_replaces_a_damaged_one(store: Store) -> None:
    path = store.add_backbone("hub/lite0", "ab" * 32, b"graph")
    assert path == store.backbone_path("hub/lite0", "ab" * 32)
    assert path.parent == store.path / "backbones"
    path.write_bytes(b"grap\0")
    assert store.add_backbone("hub/lite0", "ab" * 32, b"graph").read_bytes() == b"graph"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_catalog_is_in_the_store(store: Store) -> None:
    assert isinstance(store.catalog, Catalog)
    assert store.catalog is store.catalog
    store.catalog.close()
    assert (store.path / "catalog.sqlite").exists()


def test_two_processes_that_make_a_store_at_once_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making = LocalPath.make_folder

    def racing(folder: LocalPath) -> None:
        monkeypatch.undo()
        add(open_store(tmp_path / "store").space(SPEC), 0)
        making(folder)

    monkeypatch.setattr(LocalPath, "make_folder", racing)
    space = open_store(tmp_path / "store").space(SPEC)
    add(space, 1)
    assert batches_in(space) == {0, 1}
    assert rows_of(keys_of(0)).shape == (4, 3)
