"""Engines: Ray is only loaded on request, and lost shards are detected."""

import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import penult.pipeline.extraction.job as job_module
from penult.errors import (
    EngineError,
    InputError,
    MissingExtraError,
    MissingFileError,
    StoreDamagedError,
    StoreWriteError,
)
from penult.exporters.backbone import Backbone
from penult.pipeline.cluster.actor import ActorConfig, WorkerActor, library_versions, require_same_versions
from penult.pipeline.cluster.connection import ActorResources, actor_capacity, actor_resources, require_capacity
from penult.pipeline.extraction.engines import Engine, LocalEngine
from penult.pipeline.extraction.extract import ExtractOptions, extract, open_spaces
from penult.pipeline.extraction.recorder import Recorder
from penult.pipeline.images.listing import list_images
from penult.store import Space, Store, open_store


def test_a_local_job_loads_no_ray(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    small_backbone.save(tmp_path / "small.onnx")
    program = (
        "import sys, penult.pipeline.cli\n"
        "from penult.pipeline.extraction.extract import extract\n"
        "extract(sys.argv[1], sys.argv[2], backbone=sys.argv[3])\n"
        "sys.exit('ray' in sys.modules)"
    )
    arguments = [str(collection), str(tmp_path / "store"), str(tmp_path / "small.onnx")]
    assert subprocess.run([sys.executable, "-c", program, *arguments], check=False).returncode == 0


def test_a_missing_ray_names_the_extra(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penult.pipeline.extraction.engines.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"penult\[ray\]"):
        extract(collection, tmp_path / "store", backbone=small_backbone, options=ExtractOptions(engine="ray"))


def test_an_address_without_a_cluster_is_an_immediate_error(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    options = ExtractOptions(engine="ray", address="127.0.0.1:1")
    with pytest.raises(EngineError, match=r"no Ray cluster at '127.0.0.1:1'.*ray start --head"):
        extract(collection, tmp_path / "store", backbone=small_backbone, options=options)
    monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda folder: "127.0.0.1:1")
    with pytest.raises(EngineError, match=r"no Ray cluster at 'auto'.*refused"):
        extract(collection, tmp_path / "store", backbone=small_backbone, options=replace(options, address="auto"))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_that_is_not_ray_is_detected_in_time(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr("penult.pipeline.cluster.connection.CONNECT_SECONDS", 0.5)

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer)
                time.sleep(0.0 if answer else 2.0)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        options = ExtractOptions(engine="ray", address=f"127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(EngineError, match=r"There is no Ray cluster at .*: (something else listens there|.*reset)"):
            extract(collection, tmp_path / "store", backbone=small_backbone, options=options)


@pytest.mark.parametrize("named", ["AuthenticationError", "RuntimeError"])
def test_a_cluster_that_needs_a_token_is_an_error_with_a_remedy(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    ray = pytest.importorskip("ray")

    def refuse(**_: Any) -> None:
        raise getattr(ray.exceptions, named, RuntimeError)("Failed to connect to Ray cluster at 10.0.0.1:6379.")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr("penult.pipeline.cluster.connection._require_reachable", lambda _: None)
    options = ExtractOptions(engine="ray", address="10.0.0.1:6379")
    with pytest.raises(EngineError, match=r"refuses the connection: Failed to connect.*RAY_AUTH_MODE=token"):
        extract(collection, tmp_path / "store", backbone=small_backbone, options=options)


@pytest.mark.parametrize("others", [{"engine": "dask"}, {"address": "auto"}, {"actors": 2}, {"decoders": 2}])
def test_wrong_engine_options_are_errors(others: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(others))):
        ExtractOptions(**others)


@pytest.mark.parametrize(
    ("options", "nodes", "demand", "room"),
    [
        (ExtractOptions(), [{"CPU": 16.0}, {"CPU": 9.0}, {}], ActorResources(4), 6),
        (ExtractOptions(), [{"CPU": 2.0}, {"CPU": 16.0}], ActorResources(2), 9),
        (ExtractOptions(workers=8), [{"CPU": 16.0}, {"CPU": 4.0}], ActorResources(8), 2),
        (ExtractOptions(), [{"CPU": 4.0}, {"CPU": 32.0, "GPU": 4.0}], ActorResources(8, 1), 4),
        (ExtractOptions(provider="cpu"), [{"CPU": 32.0, "GPU": 4.0}], ActorResources(4), 8),
        (ExtractOptions(provider="cuda", workers=2), [], ActorResources(2, 1), 0),
        (ExtractOptions(), [], ActorResources(4), 0),
        (ExtractOptions(engine="ray", decoders=8), [{"CPU": 4.0}, {"CPU": 32.0, "GPU": 4.0}], ActorResources(1, 1), 4),
        (ExtractOptions(engine="ray", decoders=2, workers=3), [{"CPU": 4.0}, {"CPU": 4.0}], ActorResources(1), 2),
        (ExtractOptions(engine="ray", decoders=40), [{"CPU": 4.0}, {"CPU": 4.0}], ActorResources(1), 1),
    ],
)
def test_the_resources_of_an_actor_follow_the_nodes(
    options: ExtractOptions, nodes: list[dict[str, float]], demand: ActorResources, room: int
) -> None:
    assert actor_resources(options, nodes) == demand
    assert actor_capacity(demand, nodes, options.decoders) == room


def test_a_cluster_that_is_too_small_is_an_early_error() -> None:
    with pytest.raises(
        EngineError, match=r"the resources for an actor with 8 CPUs; the largest has 4 CPUs.*--actors N"
    ):
        require_capacity(ActorResources(8), [{"CPU": 4.0}, {"CPU": 2.0}], None)
    with pytest.raises(EngineError, match=r"1 CPU, which an actor takes: none is left for decoding"):
        require_capacity(ActorResources(1), [{"CPU": 1.0}], 3)
    require_capacity(ActorResources(1), [{"CPU": 2.0}], 3)


def _losing(times: int) -> Callable[..., Engine]:
    """Returns an engine that loses its recorded shards this many times."""

    def start(
        backbone: Backbone, store: Store, spaces: dict[str, Space], options: ExtractOptions, recorder: Recorder
    ) -> Engine:
        class Losing(LocalEngine):
            def __exit__(self, *error: Any) -> None:
                nonlocal times
                super().__exit__(*error)
                if times:
                    times -= 1
                    for space in spaces.values():
                        for name in ("shards", "manifests"):
                            for path in (space.path / name).iterdir():
                                path.unlink()

        return Losing(backbone, store, spaces, options, recorder)

    return start


def test_a_shard_that_disappears_during_a_job_is_extracted_again(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    (collection / "red" / "torn.png").write_bytes(b"torn")
    (collection / "red" / "copy.png").write_bytes((collection / "red" / "0.png").read_bytes())
    monkeypatch.setattr(job_module, "start_engine", _losing(1))
    receipt = extract(collection, tmp_path / "store", backbone=small_backbone, options=ExtractOptions(engine="ray"))
    assert (receipt.found, receipt.new, receipt.reused, receipt.failed) == (32, 30, 1, 1)
    assert (receipt.distinct_keys, receipt.is_complete) == (30, True)
    assert len(open_store(tmp_path / "store").spaces()[0]) == 30


def test_a_store_that_loses_all_shards_is_an_error(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(job_module, "start_engine", _losing(10**6))
    with pytest.raises(StoreDamagedError, match=r"30 images have no rows although these were committed, for example "):
        extract(collection, tmp_path / "store", backbone=small_backbone, options=ExtractOptions(engine="ray"))
    (job,) = open_store(tmp_path / "store").catalog.jobs.all()
    assert job.receipt is not None
    assert (job.receipt["is_complete"], job.receipt["stopped"]) == (False, "error")


# An actor without Ray: a plain class, called like Ray does.


def _duty(folder: Path, backbone: Backbone, **others: Any) -> ActorConfig:
    store = open_store(folder)
    spaces = open_spaces(store, backbone, ["penultimate"], "float16")
    names = {name: space.spec.id for name, space in spaces.items()}
    return ActorConfig(
        **{
            "store": str(folder),
            "backbone": backbone.name,
            "fingerprint": backbone.fingerprint,
            "spaces": names,
            "options": ExtractOptions(workers=1, batch_size=1),
            **others,
        }
    )


def test_an_actor_commits_rows_and_leaves_the_records_to_the_driver(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    (collection / "red" / "torn.png").write_bytes(b"torn")
    (collection / "red" / "copy.png").write_bytes((collection / "red" / "0.png").read_bytes())
    actor = WorkerActor(_duty(tmp_path / "store", small_backbone))
    assert actor.open().workers == 1
    files = list(list_images(collection))
    report = actor.process(files)
    store = open_store(tmp_path / "store")
    (space,) = store.spaces()
    assert len(space) == 30
    assert (report.tally.new, report.tally.reused, len(report.tally.failed)) == (30, 1, 1)
    assert sum(len(commit.seen) for commit in report.commits) == 31
    assert [failure.path for commit in report.commits for failure in commit.failures] == [report.tally.failed[0][0]]
    assert len(store.catalog.files) == len(store.catalog.ledger) == 0
    assert list((space.path / "manifests").iterdir()) == []
    again = actor.process(files)
    assert (again.tally.new, again.tally.reused) == (0, 31), "as where its report was lost"
    actor.stop()
    assert actor.process(files).tally.images == 0


def test_an_actor_with_another_version_or_store_is_an_error(tmp_path: Path, small_backbone: Backbone) -> None:
    with pytest.raises(EngineError, match="the same version"):
        WorkerActor(_duty(tmp_path / "store", small_backbone, version="0.0.1")).open()
    with pytest.raises(EngineError, match="has no space"):
        WorkerActor(_duty(tmp_path / "store", small_backbone, spaces={"penultimate": "0" * 16})).open()
    with pytest.raises(MissingFileError, match="no store"):
        WorkerActor(_duty(tmp_path / "store", small_backbone, store=str(tmp_path / "elsewhere"))).open()


def test_a_node_without_the_images_stops_the_job_and_fails_no_image(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    actor = WorkerActor(_duty(tmp_path / "store", small_backbone))
    actor.open()
    files = [replace(file, path=file.path.replace("red", "unmounted")) for file in list_images(collection)]
    with pytest.raises(EngineError, match=r"On the node .*: There is no folder .*unmounted"):
        actor.process([file for file in files if "unmounted" in file.path])
    report = actor.process([file for file in files if "unmounted" not in file.path])
    assert report.tally.failed == []


def test_an_actor_that_cannot_write_names_its_node(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    actor = WorkerActor(_duty(tmp_path / "store", small_backbone))
    actor.open()
    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(StoreWriteError, match=r"On the node .*: .* cannot be written: Read-only file system"):
        actor.process(list(list_images(collection)))
    monkeypatch.undo()
    assert actor.process(list(list_images(collection))).tally.new == 30


def test_different_versions_on_nodes_are_an_error() -> None:
    require_same_versions(library_versions(), library_versions())
    with pytest.raises(
        EngineError, match=r"One node has onnxruntime .*, and another has onnxruntime 0.1 and Pillow 1.0"
    ):
        require_same_versions(library_versions(), "onnxruntime 0.1 and Pillow 1.0")
