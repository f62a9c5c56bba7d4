"""Images give the same rows from folders, archives, URLs and memory."""

import functools
import http.server
import io
import json
import os
import re
import socket
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from penult.errors import ImageError, InputError, MissingFileError
from penult.exporters.backbone import Backbone
from penult.pipeline.extraction import job as job_module
from penult.pipeline.extraction.extract import ExtractOptions, extract
from penult.pipeline.fit import fit
from penult.pipeline.images import listing as images_module
from penult.pipeline.images import remote as remote_module
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.listing import list_images
from penult.pipeline.models.predict import predict
from penult.store import Store, key_of, open_store


def _content(store: Store) -> dict[str, tuple[bytes, bytes]]:
    loaded = {space.spec.id: space.load(dtype="float32") for space in store.spaces()}
    return {name: (rows.keys.tobytes(), rows.features.tobytes()) for name, rows in loaded.items()}


def _tar(path: Path, folder: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.rglob("*")):
            tar.add(file, file.relative_to(folder), recursive=False)
    return path


def _zip(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def _tar_of(path: Path, members: list[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 40), (level, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def _read(file: ImageFile) -> bytes:
    assert file.reader is not None
    return file.reader.read(file, 1 << 20)


@pytest.fixture(params=["tar", "zip", "folder of archives", "glob", "memory", "http tar"])
def other_place(request: pytest.FixtureRequest, collection: Path, tmp_path: Path) -> Iterator[str]:
    """The same collection in another kind of source."""
    if request.param == "tar":
        yield str(_tar(tmp_path / "c.tar", collection))
    elif request.param == "zip":
        yield str(_zip(tmp_path / "c.zip", collection))
    elif request.param == "glob":
        yield str(collection / "*" / "*.png")
    elif request.param == "memory":
        system = fsspec.filesystem("memory")
        system.put(str(collection), "/here", recursive=True)
        yield "memory://here"
        system.rm("/here", recursive=True)
    elif request.param == "http tar":
        _tar(tmp_path / "c.tar", collection)
        with _served(tmp_path) as address:
            yield f"{address}/c.tar"
    else:
        (tmp_path / "parts").mkdir()
        for folder in collection.iterdir():
            (tmp_path / "parts" / folder.name).mkdir()
            _tar(tmp_path / "parts" / folder.name / "part.tar", folder)
        yield str(tmp_path / "parts")


class _served:  # noqa: N801 - it is used like a function
    """A web server on this machine."""

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(_Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *reason: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *values: object) -> None: ...


def test_the_same_images_give_the_same_rows_from_every_source(
    other_place: str, collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    plain, other = open_store(tmp_path / "plain"), open_store(tmp_path / "other")
    extract(collection, plain, backbone=small_backbone)
    options = ExtractOptions(workers=3, batch_size=32)
    assert extract(other_place, other, backbone=small_backbone, options=options).new == 30
    assert _content(plain) == _content(other)
    found, expected = list(list_images(other_place)), list(list_images(collection))
    assert sorted(str(file.label) for file in found) == sorted(str(file.label) for file in expected)
    assert extract(other_place, plain, backbone=small_backbone).reused == 30


@pytest.mark.parametrize("pack", [_tar, _zip])
def test_an_unchanged_archive_is_not_read_again(
    pack: Callable[[Path, Path], Path],
    collection: Path,
    tmp_path: Path,
    small_backbone: Backbone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = pack(tmp_path / ("c.tar" if pack is _tar else "c.zip"), collection)
    extract(archive, tmp_path / "store", backbone=small_backbone)
    with monkeypatch.context() as patch:
        patch.setattr(job_module, "start_engine", None)  # opening a session or a worker would fail
        assert extract(archive, tmp_path / "store", backbone=small_backbone).reused == 30
    os.utime(archive, ns=(1, 1))
    again = extract(archive, tmp_path / "store", backbone=small_backbone)
    assert (again.new, again.reused) == (0, 30)


def test_webdataset_labels_are_read_from_files_next_to_the_images(tmp_path: Path) -> None:
    _tar_of(
        tmp_path / "s-000.tar",
        [
            ("a/001.jpg", b"1"),
            ("a/001.cls", b"7\n"),
            ("a/002.png", b"2"),
            ("a/002.json", json.dumps({"label": "cat", "size": 3}).encode()),
            ("a/003.jpg", b"3"),
            ("a/003.json", b"{broken"),
            ("a/003.txt", b"a caption"),
            ("b/notes.txt", b"alone"),
            ("b/x.1.jpg", b"4"),
            ("b/x.2.jpg", b"5"),
        ],
    )
    found = {file.path.split(".tar/")[1]: file.label for file in list_images(tmp_path / "s-000.tar")}
    assert found == {
        "a/001.jpg": "7",
        "a/002.png": "cat",
        "a/003.jpg": "a",
        "b/notes.txt": "b",
        "b/x.1.jpg": "b",
        "b/x.2.jpg": "b",
    }


def test_a_range_names_shards_and_their_folders_give_splits(tmp_path: Path) -> None:
    for number in (8, 9, 10, 11):
        members: list[tuple[str | tarfile.TarInfo, bytes]] = [(f"train/c/{number}.jpg", b"x"), ("val/c/v.jpg", b"y")]
        _tar_of(tmp_path / f"s-{number:02}.tar", members)
    found = [(file.split, file.label) for file in list_images(f"{tmp_path}/s-{{08..10}}.tar")]
    assert found == [("train", "c"), ("val", "c")] * 3


def test_a_hostile_tar_reads_no_other_files_and_little_memory(
    tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info

    path = _tar_of(
        tmp_path / "evil.tar",
        [
            ("../../escape.png", _png(1)),
            ("/etc/absolute.png", _png(2)),
            ("same.png", b"first"),
            ("same.png", _png(3)),
            (special("link.png", tarfile.SYMTYPE, "/etc/passwd"), b""),
            (special("hard.png", tarfile.LNKTYPE, "same.png"), b""),
            (special("device.png", tarfile.CHRTYPE), b""),
            (special("pipe.png", tarfile.FIFOTYPE), b""),
            ("inner.tar", b"no image"),
            (".hidden.png", _png(4)),
            ("__MACOSX/x.png", _png(5)),
        ],
    )
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    store = open_store(tmp_path / "store")
    receipt = extract(path, store, backbone=small_backbone)
    assert (receipt.found, receipt.new, receipt.failed) == (8, 3, 5)
    reasons = {row.path.removeprefix(f"{path}/"): row.reason for row in store.catalog.ledger.failures()}
    assert "link" in reasons["link.png"]
    assert "link" in reasons["hard.png"]
    assert "not a regular file" in reasons["device.png"]
    assert {key_of(_png(level)) for level in (1, 2, 3)} == {row.tobytes() for row in store.spaces()[0].load().keys}
    assert {each for each in tmp_path.rglob("*") if tmp_path / "store" not in (each, *each.parents)} == before


def test_a_damaged_tar_yields_its_intact_images_and_an_error(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(4)]
    path = _tar_of(tmp_path / "t.tar", [(name, _png(9)) for name in names])
    whole = path.read_bytes()
    third = whole.index(b"2.png")
    path.write_bytes(whole[:third] + b"\xff" * 512 + whole[third + 512 :])
    *found, last = list_images(path)
    assert [Path(file.path).name for file in found] == names[:2]
    with pytest.raises(ImageError, match="archive is damaged"):
        _read(last)
    path.write_bytes(whole[: third + 600])  # within the third
    *found, last = list_images(path)
    assert [Path(file.path).name for file in found] == names[:3]
    with pytest.raises(ImageError, match="archive is truncated"):
        _read(found[2])
    with pytest.raises(ImageError, match="damaged"):
        _read(last)
    path.write_bytes(b"no archive at all" * 100)
    with pytest.raises(ImageError, match="damaged"):
        _read(next(list_images(path)))


def test_a_tar_header_that_claims_gigabytes_is_rejected(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    path = tmp_path / "t.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    (refused,) = list_images(path)
    with pytest.raises(ImageError, match="claims"):
        _read(refused)


def test_the_error_for_a_compressed_tar_names_the_remedy(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(InputError, match=r"compressed with gzip.*decompress it once"):
        list(list_images(tmp_path / "c.tar.gz"))
    (refused,) = list_images(tmp_path)
    with pytest.raises(ImageError, match="gzip"):
        _read(refused)


def test_bad_members_of_a_zip_fail_alone(tmp_path: Path) -> None:
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(5 << 20))
        archive.writestr("good.png", _png(1))
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    found = {Path(file.path).name: file for file in list_images(path)}
    assert path.stat().st_size < 1 << 16
    with pytest.raises(ImageError, match="too large"):
        _read(found["bomb.png"])
    with pytest.raises(ImageError, match="link"):
        _read(found["link.png"])
    assert _read(found["good.png"]) == _png(1)
    data = bytearray(path.read_bytes())
    start = data.index(b"good.png") + 8
    data[start + 10] ^= 0xFF
    path.write_bytes(bytes(data))
    damaged = next(file for file in list_images(path) if file.path.endswith("good.png"))
    with pytest.raises(ImageError, match="cannot be decompressed"):
        _read(damaged)
    (tmp_path / "y.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read as a zip"):
        list(list_images(tmp_path / "y.zip"))


def test_a_tar_of_many_members_is_listed_in_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    count = 3000
    path = _tar_of(tmp_path / "many.tar", [(f"c{number % 9}/{number:07}.jpg", b"x") for number in range(count)])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found = list(list_images(path))
        held = tracemalloc.get_traced_memory()[0] - before
        assert len(found) == count
        assert tracemalloc.get_traced_memory()[1] - before < 1500 * count
        assert held < 500 * count
    finally:
        tracemalloc.stop()


def test_a_text_file_and_a_table_may_name_paths_and_urls(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_png(1))
    system = fsspec.filesystem("memory")
    system.pipe("/there/b.png", _png(2))
    (tmp_path / "list.txt").write_text("a.png\n\nmemory://there/b.png\nmissing.png\n")
    here, there, missing = list_images(tmp_path / "list.txt")
    assert (here.path, here.size) == (str(tmp_path / "a.png"), len(_png(1)))
    assert _read(there) == _png(2)
    assert missing.size == -1
    (tmp_path / "t.csv").write_text("path,label\nmemory://there/b.png,x\n")
    (row,) = list_images(tmp_path / "t.csv")
    assert (row.label, _read(row)) == ("x", _png(2))
    system.rm("/there", recursive=True)


def test_only_remote_files_without_a_version_are_downloaded_again(tmp_path: Path, small_backbone: Backbone) -> None:
    (tmp_path / "web" / "c").mkdir(parents=True)
    (tmp_path / "web" / "c" / "a.png").write_bytes(_png(1))
    with _served(tmp_path / "web") as address:
        assert [file.label for file in list_images(f"{address}/")] == ["c"]
        for expected in ((1, 0), (0, 1)):
            receipt = extract(f"{address}/", tmp_path / "store", backbone=small_backbone)
            assert (receipt.new, receipt.reused) == expected
        with pytest.raises(MissingFileError, match="no file at"):
            list(list_images(f"{address}/none.png"))
    with pytest.raises(InputError, match="cannot be read"):
        list(list_images("nosuchscheme://x"))


def test_images_of_an_unresponsive_web_server_fail(
    tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "TIMEOUT_SECONDS", 0.3)
    (tmp_path / "a.png").write_bytes(_png(1))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections and never answers
        (tmp_path / "t.csv").write_text(f"path\na.png\nhttp://127.0.0.1:{silent.getsockname()[1]}/b.png\n")
        store = open_store(tmp_path / "store")
        for expected in ((1, 0, 1), (0, 1, 1)):
            receipt = extract(tmp_path / "t.csv", store, backbone=small_backbone)
            assert (receipt.new, receipt.reused, receipt.failed) == expected
    (failure,) = store.catalog.ledger.failures()
    assert re.match("the file cannot be read: .*Timeout", failure.reason)


def test_arrays_can_be_extracted(tmp_path: Path, small_backbone: Backbone) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 40, 50, 3), dtype=np.uint8)
    store = open_store(tmp_path / "store")
    assert extract([*pixels, pixels[0, ..., 0]], store, backbone=small_backbone).new == 5
    assert extract(list(pixels), store, backbone=small_backbone).reused == 4
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    extract(tmp_path / "a.png", tmp_path / "other", backbone=small_backbone)
    row = open_store(tmp_path / "other").spaces()[0].load().features[0]
    assert (store.spaces()[0].load().features == row).all(axis=1).any()
    with pytest.raises(InputError, match=r"\(40, 50, 4\) of float64.*uint8"):
        extract([np.zeros((40, 50, 4))], store, backbone=small_backbone)


def test_other_packages_can_add_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("lmdb", f"{__name__}:list_lmdb", "penult.images")
    monkeypatch.setattr(images_module, "entry_points", lambda *, group, name: [point] if name == "lmdb" else [])
    assert [file.path for file in list_images("lmdb://photos")] == ["lmdb://photos/0"]


def list_lmdb(url: str) -> Iterator[ImageFile]:
    yield ImageFile(f"{url}/0", 1, 1)


def test_a_tar_can_be_trained_on_and_predicted(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    archive = _tar(tmp_path / "c.tar", collection)
    fitted = fit(archive, tmp_path / "store", backbone=small_backbone, output=tmp_path / "out")
    assert fitted.dataset.name == "c"
    predictions = list(predict(fitted.delivery.model, archive))
    assert len(predictions) == 30
    assert {prediction.label for prediction in predictions} == {"red", "green", "blue"}
    assert not any(prediction.error for prediction in predictions)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_an_archive_that_is_a_pipe_or_a_device_is_not_read(tmp_path: Path, suffix: str) -> None:
    """Opening a pipe waits for a writer forever, and a device never ends."""
    folder = tmp_path / "photos"
    folder.mkdir()
    os.mkfifo(folder / f"pipe.{suffix}")
    (folder / f"zero.{suffix}").symlink_to("/dev/zero")
    for file in list_images(folder):
        assert file.reader is not None
        with pytest.raises(ImageError, match="is not a regular file"):
            file.reader.read(file, 1)
    with pytest.raises(InputError, match="is not a regular file"):
        list(list_images(folder / f"pipe.{suffix}"))


def test_a_row_with_an_invalid_url_ends_in_the_ledger(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    good = collection / "red" / "1.png"
    table = tmp_path / "table.csv"
    table.write_text(f"path,label\nno-such-scheme://x/y.jpg,a\n{good},b\nhttp://[,c\n")
    store = open_store(tmp_path / "store")
    receipt = extract(table, store, backbone=small_backbone)
    assert (receipt.new, receipt.failed) == (1, 2)
    assert [file.label for file in list_images(table)] == ["a", "b", "c"]
    assert any("no-such-scheme" in failure.reason for failure in store.catalog.ledger.failures())


def test_a_range_of_too_many_names_and_an_empty_path_raise_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"stands for 1,000,100,000,000 names"):
        list(list_images(tmp_path / "{0..999999}" / "{0..1000099}.jpg"))
    with pytest.raises(InputError, match="path of the images is empty"):
        list_images("")
