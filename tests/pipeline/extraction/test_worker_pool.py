"""The worker pool: slow images do not block others, GPUs get full batches, and a stop takes seconds."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penult.pipeline.extraction.worker_pool as pool_module
import penult.pipeline.runtime.session as session_module
from penult.exporters.backbone import Backbone
from penult.pipeline.extraction.extract import ExtractOptions, extract, open_spaces
from penult.pipeline.extraction.worker import Outcome, Presence, Stopped, Worker, never
from penult.pipeline.extraction.worker_pool import WorkerPool
from penult.pipeline.extraction.writer import Writer
from penult.pipeline.images import decoder_pool as decoders_module
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.listing import list_images
from penult.pipeline.runtime.providers import ProviderChoice, open_session
from penult.store import Space, open_store

# A decoder that runs an endless loop in C for one image, so that only a kill ends it.
HANGING = """
import ctypes
import penult.pipeline.images.decode as module
decoded = module.decode_to_image
def hanging(data, *others):
    if data.startswith(b"loop"): ctypes.PyDLL(None).sleep(60)
    return decoded(data, *others)
module.decode_to_image = hanging
"""


@pytest.fixture
def spaces(tmp_path: Path, small_backbone: Backbone) -> dict[str, Space]:
    return open_spaces(open_store(tmp_path / "store"), small_backbone, ["penultimate"], "float16")


def _files(*names: str, size: int = 1) -> list[ImageFile]:
    return [ImageFile(name, size, 1) for name in names]


def _batches(*loads: Sequence[ImageFile]) -> Generator[list[ImageFile]]:
    yield from map(list, loads)


class _Waiting(Worker):
    """Blocks on the file named slow until it is released, and returns at once for others."""

    go = threading.Event()

    def __call__(self, files: Sequence[ImageFile], is_present: Presence, is_stopped: Stopped = never) -> Outcome:
        if files[0].path == "slow":
            assert self.go.wait(30)
        return Outcome(present=[(file, bytes(16)) for file in files])


@pytest.fixture
def pool(small_backbone: Backbone, spaces: dict[str, Space]) -> WorkerPool:
    _Waiting.go = threading.Event()
    return WorkerPool(small_backbone, spaces, ExtractOptions(workers=2), kind=_Waiting)


def _carried(pool: WorkerPool, count: int, is_over: Callable[[int], bool]) -> list[str]:
    """Processes the slow batch and ``count`` others; returns the order in which they end."""
    others = [_files(str(number)) for number in range(count)]
    ended: list[str] = []
    for outcome in pool.process(_batches(_files("slow"), *others), lambda keys: [False] * len(keys), lambda: False):
        ended.append(outcome.present[0][0].path)
        if is_over(len(ended)):
            _Waiting.go.set()
    pool.close()
    return ended


def test_a_slow_image_does_not_block_others(pool: WorkerPool) -> None:
    ended = _carried(pool, 50, lambda count: count == 50)
    assert sorted(ended) == sorted(["slow", *map(str, range(50))])
    assert ended[-1] == "slow"


def test_the_writer_remembers_all_batches_that_can_overtake(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "OVERTAKING", 10)
    threading.Timer(1.0, _Waiting.go.set).start()
    ended = _carried(pool, 50, lambda count: False)
    assert 5 <= ended.index("slow") <= pool.overlap < 50


def test_an_overtaken_batch_is_counted_once(spaces: dict[str, Space]) -> None:
    def made(key: bytes) -> Outcome:
        return Outcome(
            extracted=[(ImageFile(key.hex(), 1, 1), key)], rows={"penultimate": np.ones((1, 12), np.float16)}
        )

    keys = [bytes([number]) * 16 for number in range(4)]
    writer = Writer(spaces, overlap=3)
    taken = []
    for key in keys:
        taken.append(writer.take(made(key)).new)
        writer.commit()
    taken.append(writer.take(made(keys[0])).new)
    assert taken == [1, 1, 1, 1, 0]
    assert writer.commit().rows == 0


def test_an_empty_batch_waits_for_all_earlier_ones(pool: WorkerPool) -> None:
    threading.Timer(0.3, _Waiting.go.set).start()
    seen: list[str] = []
    asked: list[int] = []

    def loads() -> Generator[list[ImageFile]]:
        yield _files("slow")
        yield _files("a")
        yield []
        asked.append(len(seen))
        yield _files("b")

    for outcome in pool.process(loads(), lambda keys: [False] * len(keys), lambda: False):
        seen += [file.path for file, _ in outcome.present]
    pool.close()
    assert asked == [2]
    assert seen[-1] == "b"


def test_gpu_batches_have_no_byte_limit(
    small_backbone: Backbone, spaces: dict[str, Space], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = _files(*map(str, range(130)), size=9 << 20)
    local = WorkerPool(small_backbone, spaces, ExtractOptions(provider="cpu", workers=1))
    assert {len(load) for load in local.into_batches(files)} == {1}
    real = open_session(small_backbone.serialized(["penultimate"]), "cpu")
    monkeypatch.setattr(session_module, "choose_provider", lambda asked, precision: ProviderChoice("cuda"))
    monkeypatch.setattr(session_module, "count_gpus", lambda: 1)
    monkeypatch.setattr(session_module, "open_session", lambda *given: real)
    on_gpu = WorkerPool(small_backbone, spaces, ExtractOptions(workers=1))
    assert [len(load) for load in on_gpu.into_batches(files)] == [64, 64, 2]
    local.close()
    on_gpu.close()


def test_no_image_starts_after_a_stop(collection: Path, small_backbone: Backbone, spaces: dict[str, Space]) -> None:
    pool = WorkerPool(small_backbone, spaces, ExtractOptions(workers=1, batch_size=2))
    files = list(list_images(collection))[:8]

    def stopped_after(times: int) -> Stopped:
        asked = iter(range(times))
        return lambda: next(asked, None) is None

    whole = pool._worker(files, lambda keys: [False] * len(keys), lambda: False)
    assert (len(whole.extracted), whole.rows["penultimate"].shape) == (8, (8, 12))
    counts = set()
    for times in range(13):
        part = pool._worker(files, lambda keys: [False] * len(keys), stopped_after(times))
        count = len(part.extracted)
        counts.add(count)
        assert part.extracted == whole.extracted[:count]
        assert not part.failed
        if count:
            np.testing.assert_array_equal(part.rows["penultimate"], whole.rows["penultimate"][:count])
    assert {0, 2, 6} <= counts, "whole batches"
    pool.close()


def test_a_stop_does_not_wait_for_a_blocked_decoder(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "STOP_SECONDS", 0.3)
    monkeypatch.setattr(decoders_module, "PROGRAM", f"exec({HANGING!r}); {decoders_module.PROGRAM}")
    (collection / "blue" / "hangs.png").write_bytes(b"loop")
    store: Any = open_store(tmp_path / "stopped")
    began = time.monotonic()
    options = ExtractOptions(workers=2, max_seconds=3, image_seconds=60)
    receipt = extract(collection, store, backbone=small_backbone, options=options)
    assert time.monotonic() - began < 30
    assert (receipt.found, receipt.stopped, receipt.failed) == (31, "max_seconds", 0)
    assert len(store.catalog.ledger) == 0, "the image has not failed, but was left"
    assert len(store.spaces()[0]) == receipt.new >= 14


SILENT = """
import socket, sys
import penult.pipeline.extraction.worker_pool as pool
from penult.pipeline.cli import main
pool.STOP_SECONDS = 0.5
listener = socket.create_server(("127.0.0.1", 0))  # who answers nothing
port = listener.getsockname()[1]
open(sys.argv[1], "w").write(f"path\\nhttp://127.0.0.1:{port}/a.jpg\\n" + "\\n".join(sys.argv[2:4]) + "\\n")
sys.argv = ["penult", "extract", sys.argv[1], "--store", sys.argv[4], "--backbone", sys.argv[5], "--max-seconds", "2"]
main()
"""


def test_a_stop_does_not_wait_for_a_silent_server(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    pytest.importorskip("aiohttp")
    small_backbone.save(tmp_path / "small.onnx")
    images = [str(path) for path in sorted(collection.rglob("*.png"))[:2]]
    words = [str(tmp_path / "table.csv"), *images, str(tmp_path / "store"), str(tmp_path / "small.onnx")]
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", SILENT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "images are left for the next run" in done.stdout
    assert time.monotonic() - began < 25, "a server may take 30 seconds"
