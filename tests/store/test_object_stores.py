"""Stores in object storage: in memory, and on a small S3 server with configurable faults."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from fsspec import register_implementation
from fsspec.implementations.memory import MemoryFileSystem

from penult.errors import (
    InputError,
    MissingExtraError,
    MissingFileError,
    StoreDamagedError,
    StoreError,
    StoreFormatError,
    StoreWriteError,
)
from penult.store import SpaceSpec, Store, open_store
from penult.store.catalog.files import SeenFile
from penult.store.diff import diff_stores
from penult.store.files.bucket import Bucket
from penult.store.tables.table import Table
from tests.store.rig.samples import SPEC, add, batches_in, keys_of, rows_of
from tests.store.rig.storage import PAGE, Server, Storage


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A local S3 server, set in the environment."""
    serving = Server(Storage())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", serving.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield serving
    serving.shutdown()
    serving.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def url(server: Server) -> str:
    """An address in a storage without faults."""
    storage = server.storage
    storage.refused, storage.knows_conditions, storage.loses_answers_to = set(), True, ""
    storage.requests.clear()
    return f"s3://bucket/{uuid4().hex}"


@pytest.fixture(params=["memory", "s3"])
def any_url(request: pytest.FixtureRequest, url: str) -> str:
    return url if request.param == "s3" else f"memory://bucket/{uuid4().hex}"


def _table(*labels: str) -> Table:
    return Table(keys_of(0, len(labels)), tuple(map(str, range(len(labels)))), {"label": np.array(labels, object)})


def _elsewhere(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Opens a store like another machine, with another cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / uuid4().hex))
    return open_store(url, create=False)


def test_a_store_in_object_storage_equals_one_on_a_disk(any_url: str, tmp_path: Path) -> None:
    remote, local = open_store(any_url), open_store(tmp_path / "local")
    for store in (remote, local):
        space = store.space(SPEC)
        for batch in range(3):
            add(space, batch, rows=400)
        space.checkpoint()
        add(space, 3)
    again = open_store(any_url, create=False)
    assert again.address == any_url
    (space,) = again.spaces()
    assert all(found.is_empty and found.same for found in diff_stores(local, again))
    rows = space.load()
    assert len(rows) == len(space) == 1200 + len(keys_of(3))
    assert np.array_equal(rows.features, rows_of(rows.keys))
    asked = np.concatenate([keys_of(2, 400)[::-7], keys_of(0, 400)[:3]])
    assert np.array_equal(space.gather(asked), rows_of(asked))
    assert len(space.missing(np.concatenate([asked, keys_of(9)]))) == len(keys_of(9))
    assert space.stats() == local.spaces()[0].stats()
    assert space.compact().shards_after == 1
    assert space.collect(grace_seconds=0).files_removed == 4
    assert space.verify().is_sound
    assert len(open_store(any_url).spaces()[0]) == len(space)
    assert all(found.is_empty for found in diff_stores(local, again))


def test_a_listing_of_many_pages_is_complete(url: str, server: Server) -> None:
    bucket = Bucket.at(url)
    for number in range(2 * PAGE + 1):
        server.storage.put(f"{bucket.root}/shards/{number}", b"", if_absent=False)
        server.storage.put(f"{bucket.root}/shards/below/{number}", b"", if_absent=False)
    assert sorted(bucket.names(f"{bucket.root}/shards")) == sorted(["below", *map(str, range(2 * PAGE + 1))])
    assert bucket.names(f"{bucket.root}/none") == []


def test_an_index_is_downloaded_once(url: str, server: Server, cache: Path) -> None:
    spec = SpaceSpec("narrow", "ab" * 32, "penultimate", 1)
    space, rng = open_store(url).space(spec), np.random.default_rng(1)
    keys = rng.integers(0, 256, (70_000, 16), np.uint8)
    space.add(keys, np.ones((70_000, 1), np.float16))
    space.checkpoint()
    for _ in range(2):
        again = open_store(url, create=False).space(spec)
        server.storage.requests.clear()
        assert not len(again.missing(keys[:1000]))
        assert not [path for verb, path in server.storage.requests if verb == "GET" and "/shards/" in path]
    (index,) = cache.rglob("*.h5")
    assert "indexes" in index.parts
    assert not [path for verb, path in server.storage.requests if verb == "GET" and path.endswith(".h5")]


def test_a_few_rows_download_ranges_and_many_rows_need_few_requests(url: str, server: Server) -> None:
    spec = SpaceSpec("wide", "ab" * 32, "penultimate", 1024)
    space, keys = open_store(url).space(spec), keys_of(0, 6000)
    rows = np.random.default_rng(2).standard_normal((6000, 1024)).astype(np.float16)
    space.add(keys, rows)
    assert len(space) == 6000
    fetched: list[int] = []
    reading = Bucket.read

    def watched(bucket: Bucket, key: str, start: int = 0, end: int | None = None) -> bytes:
        data = reading(bucket, key, start, end)
        fetched.append(len(data))
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bucket, "read", watched)
        assert np.array_equal(space.gather(keys[[5, 4000]]), rows[[5, 4000]].astype(np.float32))
        assert sum(fetched) < 2_000_000 < rows.nbytes
        fetched.clear()
        assert np.array_equal(space.load(keys).features, rows.astype(np.float32))
        assert len(fetched) < 12


@pytest.mark.parametrize("writers", [4])
def test_concurrent_checkpoints_keep_all_rows(url: str, writers: int) -> None:
    open_store(url).space(SPEC)
    start = threading.Barrier(writers)

    def write(writer: int) -> None:
        space = open_store(url).space(SPEC)
        for turn in range(3):
            add(space, 3 * writer + turn)
            start.wait()
            space.checkpoint()

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    space = open_store(url).space(SPEC)
    assert batches_in(space, 3 * writers) == set(range(3 * writers))
    manifest = space._folder.newest_manifest()
    assert len(manifest.shards) == 3 * writers
    assert 3 <= manifest.number <= 3 * writers, "none was overwritten"


def test_concurrent_changes_to_the_catalog_are_merged(any_url: str) -> None:
    one, other = open_store(any_url), open_store(any_url)
    seen = [SeenFile(f"photos/{number}.jpg", 1, 1, bytes(16)) for number in range(4)]
    for catalog in (one.catalog, other.catalog):
        assert catalog.jobs.all() == []
    one.catalog.files.record(seen[:2])
    other.catalog.files.record(seen[2:])
    numbers = [store.catalog.jobs.start("extract", {}) for store in (one, other)]
    one.catalog.jobs.finish(numbers[0], {"new": 2})
    other.catalog.jobs.finish(numbers[1], {"new": 2})
    one.catalog.datasets.save("ours", _table("a", "b"))
    other.catalog.datasets.save("theirs", _table("c", "d"))
    one.catalog.heads.record("linear", {"classes": 2})
    other.catalog.datasets.remove("theirs")
    whole = open_store(any_url).catalog
    assert [row.path for row in whole.files.all()] == [file.path for file in seen]
    assert [(job.id, job.receipt) for job in whole.jobs.all()] == [(number, {"new": 2}) for number in sorted(numbers)]
    assert whole.datasets.names() == ["ours"]
    assert list(whole.heads.all()) == ["linear"]
    assert whole.find_damage() == []


def test_conflicting_dataset_versions_raise_and_a_retry_succeeds(url: str) -> None:
    stores = [open_store(url) for _ in range(4)]
    start = threading.Barrier(len(stores))
    for store in stores:
        assert store.catalog.datasets.names() == []

    def save(place: int) -> None:
        start.wait()
        stores[place].catalog.datasets.save("flowers", _table("a", str(place)))

    with ThreadPoolExecutor(len(stores)) as pool:
        errors = [each.exception() for each in [pool.submit(save, place) for place in range(len(stores))]]
    again = [place for place, error in enumerate(errors) if error]
    assert len(again) == len(stores) - 1, "all had seen no version, and one was first"
    for place in again:
        error = errors[place]
        assert isinstance(error, StoreWriteError)
        assert "at the same time: it has saved version 1 of the dataset 'flowers'" in str(error)
        assert "run the same command again" in str(error)
    saved = stores[again[0]].catalog.datasets.save("flowers", _table("a", "again"))
    assert saved.version == 2
    versions = open_store(url).catalog.datasets.versions("flowers")
    assert [version.version for version in versions] == [1, 2]


def test_the_commit_after_a_failed_one_includes_its_changes(url: str, server: Server) -> None:
    one, other = open_store(url), open_store(url)
    for catalog in (one.catalog, other.catalog):
        assert catalog.datasets.names() == []
    one.catalog.datasets.save("ours", _table("a"))
    for verb in ("GET", "PUT"):
        server.storage.refused = {verb}
        with pytest.raises(StoreError, match="AccessDenied"):
            other.catalog.datasets.save("theirs", _table("b"))
    server.storage.refused = set()
    assert open_store(url).catalog.datasets.names() == ["ours"]
    assert other.catalog.datasets.save("theirs", _table("b")).version == 1
    assert open_store(url).catalog.datasets.names() == ["ours", "theirs"]


def test_other_machines_get_the_heads(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(url)
    folder = store.heads_path / "linear"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{}")
    (folder / "parts").mkdir()
    (folder / "parts" / "weights.bin").write_bytes(bytes(1000))
    store.catalog.heads.record("linear", {"classes": 2})
    other = _elsewhere(url, tmp_path, monkeypatch)
    there = other.heads_path / "linear"
    assert there != folder
    assert (there / "parts" / "weights.bin").read_bytes() == bytes(1000)
    (there / "card.json").write_text('{"better": true}')
    other.catalog.heads.record("linear", {"classes": 3})
    store.catalog.datasets.save("flowers", _table("a"))
    assert (folder / "card.json").read_text() == '{"better": true}'
    assert store.catalog.heads.get("linear") == {"classes": 3}
    third = _elsewhere(url, tmp_path, monkeypatch)
    assert (third.heads_path / "linear" / "card.json").read_text() == '{"better": true}'
    third.catalog.heads.remove("linear")
    assert not (_elsewhere(url, tmp_path, monkeypatch).heads_path / "linear").exists()


def test_a_store_copied_from_a_disk_opens_with_its_catalog_and_heads(
    any_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = open_store(tmp_path / "local")
    add(local.space(SPEC), 0)
    local.add_backbone("lite0", "ab" * 32, b"graph")
    local.catalog.datasets.save("flowers", _table("a"))
    (local.heads_path / "linear" / "parts").mkdir(parents=True)
    (local.heads_path / "linear" / "card.json").write_text("{}")
    (local.heads_path / "linear" / "parts" / "one.bin").write_bytes(b"1")
    local.catalog.heads.record("linear", {"classes": 2})
    bucket = Bucket.at(any_url)
    files = [path for path in local.path.rglob("*") if path.is_file()]
    for path in files:
        bucket.put(f"{bucket.root}/{path.relative_to(local.path).as_posix()}", path)
    with pytest.raises(StoreDamagedError, match="copied while a process wrote"):
        _ = open_store(any_url).catalog
    local.catalog.close()
    for path in files:
        if path.exists():
            bucket.put(f"{bucket.root}/{path.relative_to(local.path).as_posix()}", path)
        else:
            bucket.remove(f"{bucket.root}/{path.relative_to(local.path).as_posix()}")
    for store in (open_store(any_url), open_store(any_url), _elsewhere(any_url, tmp_path, monkeypatch)):
        assert batches_in(store.space(SPEC), 1) == {0}
        assert (store.heads_path / "linear" / "parts" / "one.bin").read_bytes() == b"1"
        assert store.catalog.heads.get("linear") == {"classes": 2}
        assert store.catalog.datasets.names() == ["flowers"]
        assert len(store.backbone_files()) == 1
        store.catalog.datasets.save("flowers", _table("a"))


def test_backbones_are_stored_next_to_the_rows(any_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(any_url)
    path = store.add_backbone("hub/lite0", "ab" * 32, b"graph")
    assert path.read_bytes() == b"graph"
    other = _elsewhere(any_url, tmp_path, monkeypatch)
    assert other.backbone_path("hub/lite0", "ab" * 32) != path
    assert [found.read_bytes() for found in other.backbone_files()] == [b"graph"]
    assert not other.backbone_path("hub/lite0", "cd" * 32).exists()


def test_a_commit_with_a_lost_answer_succeeds(url: str, server: Server) -> None:
    store = open_store(url)
    space = store.space(SPEC)
    add(space, 0)
    server.storage.loses_answers_to = "/manifests/"
    space.checkpoint()
    assert server.storage.loses_answers_to == "", "the answer was lost"
    assert space._folder.newest_number() == 1
    server.storage.loses_answers_to = "/generations/"
    assert store.catalog.datasets.save("flowers", _table("a")).version == 1
    assert open_store(url).catalog.datasets.names() == ["flowers"]


def test_a_storage_that_ignores_conditions_raises_before_a_commit(url: str, server: Server) -> None:
    server.storage.knows_conditions = False
    with pytest.raises(StoreWriteError, match="lets two writers take one name"):
        open_store(url).space(SPEC)
    with pytest.raises(StoreWriteError, match="lets two writers take one name"):
        assert open_store(url).catalog.datasets.save("flowers", _table("a"))


def test_an_unknown_storage_is_readonly(server: Server) -> None:
    class Shelf(MemoryFileSystem):  # type: ignore[misc]  # fsspec is untyped
        protocol = "shelf"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(super()._strip_protocol(path.replace("shelf://", "memory://")))

    register_implementation("shelf", Shelf, clobber=True)
    name = uuid4().hex
    with pytest.raises(StoreWriteError, match="does not know whether 'shelf'"):
        open_store(f"shelf://bucket/{name}")
    add(open_store(f"memory://bucket/{name}").space(SPEC), 0)
    space = open_store(f"shelf://bucket/{name}").space(SPEC)
    assert batches_in(space, 1) == {0}
    add(space, 1)
    with pytest.raises(StoreWriteError, match="does not know whether 'shelf'"):
        space.checkpoint()


def test_errors_name_the_missing_thing(url: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingFileError, match=f"There is no store at {url}"):
        open_store(url, create=False)
    with pytest.raises(StoreWriteError, match="there is no such bucket"):
        open_store("s3://elsewhere/features")
    with pytest.raises(InputError, match="is not a valid address"):
        open_store("nonsense://bucket/features")
    server.storage.put(f"{url.removeprefix('s3://')}/photo.jpg", b"", if_absent=False)
    with pytest.raises(StoreFormatError, match=r"is not a store: it contains 'photo\.jpg'"):
        open_store(url)
    open_store(url + "/inside")
    server.storage.refused = {"PUT"}
    with pytest.raises(StoreWriteError, match=r"cannot be written: AccessDenied.*credentials"):
        open_store(url + "/inside").space(SPEC)
    server.storage.refused = {"GET", "HEAD"}
    with pytest.raises(StoreError, match=r"cannot be read: AccessDenied.*credentials"):
        open_store(url + "/inside")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'penult\[gs\]'"):
        open_store("gs://bucket/features")


UNREACHABLE = """
import sys, time
from penult.errors import StoreError
from penult.store import open_store
try:
    open_store("s3://bucket/features")
except StoreError as error:
    print(error)
"""


@pytest.mark.slow
def test_an_unreachable_address_raises_soon(server: Server) -> None:
    began = time.monotonic()
    environment = {**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    told = subprocess.run(
        [sys.executable, "-c", UNREACHABLE], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert "s3://bucket/features cannot be read: Could not connect" in told.stdout
    assert "can be reached from here" in told.stdout
    assert time.monotonic() - began < 45


def test_a_damaged_object_is_reported_and_moved_to_quarantine(url: str, server: Server) -> None:
    space, objects = open_store(url).space(SPEC), server.storage.objects
    for batch in range(2):
        add(space, batch, rows=300)
    space.checkpoint()
    victim = next(name for name in objects if "/shards/" in name and url.removeprefix("s3://") in name)
    data, changed = objects[victim]
    with space._folder.open_shard(victim.rpartition("/")[2]) as shard:
        section = shard.file.layout.sections["features"]
    middle = section.offset + section.size_bytes // 2
    objects[victim] = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :], changed
    space = open_store(url).space(SPEC)
    with pytest.raises(StoreDamagedError, match="fail their checksum"):
        space.load()
    report = space.verify()
    assert str(report.damage[0].path) == f"s3://{victim}"
    assert len(report.keys) == 1
    lost = space.verify(repair=True).keys
    assert np.array_equal(lost, report.keys)
    assert np.array_equal(space.missing(np.concatenate([keys_of(0, 300), keys_of(1, 300)])), lost)
    assert len(space) == len(space.load()) == 599
    assert [name for name in objects if "/quarantine/" in name]


def test_a_lost_object_raises(url: str, server: Server) -> None:
    space, objects = open_store(url).space(SPEC), server.storage.objects
    add(space, 0)
    space.checkpoint()
    del objects[next(name for name in objects if "/shards/" in name and url.removeprefix("s3://") in name)]
    with pytest.raises(StoreDamagedError, match="is missing"):
        open_store(url).space(SPEC).load()


def test_a_url_converted_to_a_path_opens_the_same_store(any_url: str) -> None:
    add(open_store(Path(any_url)).space(SPEC), 0)
    assert batches_in(open_store(any_url, create=False).space(SPEC), 1) == {0}


def test_a_file_url_opens_a_folder(tmp_path: Path) -> None:
    add(open_store(f"file://{tmp_path}/store").space(SPEC), 0)
    assert batches_in(open_store(tmp_path / "store", create=False).space(SPEC), 1) == {0}


def test_rows_that_can_be_found_again_are_committed_only_from_time_to_time(
    url: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(url)
    catalog, requests = store.catalog, server.storage.requests
    requests.clear()
    catalog.files.record([SeenFile("one.jpg", 1, 1, bytes(16))])
    assert requests == []
    monkeypatch.setattr(store._generations, "_due", 0.0)  # type: ignore[attr-defined]  # of a remote store
    server.storage.refused = {"PUT"}
    catalog.files.record([SeenFile("two.jpg", 1, 1, bytes(16))])  # a failed commit waits for the next change
    server.storage.refused = set()
    assert len(open_store(url).catalog.files) == 0
    catalog.jobs.finish(catalog.jobs.start("extract", {}), {})
    assert len(open_store(url).catalog.files) == 2


WRITER = """
import sys
from penult.store import open_store
from tests.store.rig.samples import SPEC, add
space = open_store(sys.argv[1]).space(SPEC)
for batch in range(1000):
    add(space, batch, rows=2000)
    if batch % 3 == 2:
        space.checkpoint()
    print(batch, flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_only_complete_batches(url: str) -> None:
    acknowledged = 0
    for pause in (0.3, 0.7, 1.1):
        command: list[Any] = [sys.executable, "-c", WRITER, url]
        with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout
            first = writer.stdout.readline()
            time.sleep(pause)
            writer.send_signal(signal.SIGKILL)
            told = [int(line) for line in [first, *writer.stdout.read().split()]]
        acknowledged = max(acknowledged, *told)
        space = open_store(url).space(SPEC)
        whole = {batch for batch in range(acknowledged + 2) if not len(space.missing(keys_of(batch, 2000)))}
        assert set(range(acknowledged + 1)) <= whole
        assert len(space) == 2000 * len(whole)
        assert space.verify().is_sound
