"""The Ray engine on a local cluster of three nodes: the same rows whatever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penult.errors import EngineError
from penult.exporters.backbone import Backbone
from penult.pipeline.extraction.extract import ExtractOptions, extract
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.listing import list_images
from penult.pipeline.progress import Task
from penult.store import open_store
from penult.store.diff import diff_stores
from tests.store.rig.storage import Server, Storage

ray = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

NODES = 3


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A local bucket, named by the environment."""
    server = Server(Storage())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", server.url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            patch.setenv(name, "any")
        yield "s3://bucket"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def ray_cluster(bucket: str) -> Iterator[Any]:
    """Three nodes with one core each."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the actors have no tests
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(NODES - 1):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def _options(cluster: Any, **others: Any) -> ExtractOptions:
    return ExtractOptions(engine="ray", address=cluster.address, **others)


def _enlarge(collection: Path, count: int) -> None:
    for number in range(count):
        more = collection / "red" / f"more-{number}.png"
        more.write_bytes((collection / "red" / "0.png").read_bytes() + number.to_bytes(2, "big"))


def _require_equal(one: Path, other: Path) -> None:
    differences = diff_stores(open_store(one), open_store(other))
    assert differences
    assert all(found.is_empty and found.same for found in differences)


@dataclass(frozen=True)
class Slow:
    """Reads plain files slowly, marks its node, and ends the process for a file with the poison name."""

    seconds: float = 0.0
    poison: str = "none"
    marks: Path | None = None
    nodes: int = 0  # that must be at work before the first file is read

    def read(self, file: ImageFile, most_bytes: int) -> bytes:
        if self.marks:
            (self.marks / ray.get_runtime_context().get_node_id()).touch()
            deadline = time.monotonic() + 60
            while len(list(self.marks.iterdir())) < self.nodes and time.monotonic() < deadline:
                time.sleep(0.02)
        if self.poison in file.path:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        return Path(file.path).read_bytes()


def _placed(folder: Path, place: Slow) -> list[ImageFile]:
    return [
        ImageFile(file.path, file.size, file.mtime_ns, file.label, file.split, place) for file in list_images(folder)
    ]


class WhenNew:
    """A progress that calls a function whenever new images are counted, until it succeeds."""

    def __init__(self, act: Callable[[], bool]) -> None:
        self._act, self.is_done = act, False

    @contextmanager
    def task(self, label: str, *, total: int | None = None, unit: str = "images") -> Iterator[Task]:
        yield self

    def advance(self, count: int = 1, *, note: str = "") -> None:
        if count and not note.startswith("0 new") and not self.is_done:
            self.is_done = self._act()

    def expect(self, total: int) -> None: ...

    def say(self, line: str) -> None: ...


def test_three_nodes_give_the_rows_of_one_machine_bit_for_bit(
    collection: Path, tmp_path: Path, small_backbone: Backbone, ray_cluster: Any
) -> None:
    _enlarge(collection, 70)
    (collection / "red" / "torn.png").write_bytes(b"torn")
    (collection / "blue" / "copy.png").write_bytes((collection / "red" / "0.png").read_bytes())
    (tmp_path / "marks").mkdir()
    files = _placed(collection, Slow(marks=tmp_path / "marks", nodes=NODES))
    taps = ["penultimate", "stage1"]
    extract(collection, tmp_path / "local", backbone=small_backbone, taps=taps)
    options = _options(ray_cluster)
    receipt = extract(files, tmp_path / "ray", backbone=small_backbone, taps=taps, options=options)
    assert (receipt.found, receipt.new, receipt.reused, receipt.failed) == (102, 100, 1, 1)
    assert (receipt.engine, receipt.distinct_keys, receipt.is_complete, receipt.lost_actors) == ("ray", 100, True, 0)
    assert receipt.actors == NODES
    _require_equal(tmp_path / "local", tmp_path / "ray")
    local, ours = (open_store(tmp_path / name).catalog for name in ("local", "ray"))
    assert list(ours.files.all()) == list(local.files.all())
    assert [(row.path, row.reason) for row in ours.ledger.failures()] == [
        (row.path, row.reason) for row in local.ledger.failures()
    ]
    again = extract(collection, tmp_path / "ray", backbone=small_backbone, taps=taps, options=options)
    assert (again.new, again.reused, again.distinct_keys, again.actors) == (0, 101, 100, 0), "and no actor was needed"


@pytest.mark.slow
def test_one_machine_three_nodes_and_four_parts_at_once_give_equal_stores(
    collection: Path, tmp_path: Path, small_backbone: Backbone, ray_cluster: Any
) -> None:
    small_backbone.save(tmp_path / "small.onnx")
    _enlarge(collection, 30)
    penult = [sys.executable, "-m", "penult"]

    def start(store: str, *options: str) -> subprocess.Popen[bytes]:
        command = [*penult, "extract", "photos", "--store", store, "--backbone", "small.onnx", *options]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    jobs = [
        start("local"),
        start("ray", "--engine", "ray", "--address", ray_cluster.address),
        *(start("parts", "--shard", f"{number}/4") for number in range(1, 5)),
    ]
    assert [job.wait(timeout=120) for job in jobs] == [0] * len(jobs)
    for other in ("ray", "parts"):
        told = subprocess.run(
            [*penult, "store", "diff", "local", other], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        assert "60" in told.stdout
    assert len(open_store(tmp_path / "parts").spaces()[0]) == 60


@pytest.mark.slow
def test_an_image_that_ends_every_actor_ends_in_the_ledger_and_others_in_the_store(
    collection: Path, tmp_path: Path, small_backbone: Backbone, ray_cluster: Any
) -> None:
    (collection / "red" / "poison.png").write_bytes((collection / "red" / "0.png").read_bytes() + b"!")
    files = _placed(collection, Slow(poison="poison"))
    receipt = extract(files, tmp_path / "ray", backbone=small_backbone, options=_options(ray_cluster))
    assert (receipt.found, receipt.new + receipt.reused, receipt.failed) == (31, 30, 1)
    assert receipt.lost_actors >= 3
    (failure,) = open_store(tmp_path / "ray").catalog.ledger.failures()
    assert failure.path.endswith("poison.png")
    assert "died" in failure.reason
    extract([file for file in files if file.path != failure.path], tmp_path / "local", backbone=small_backbone)
    _require_equal(tmp_path / "local", tmp_path / "ray")
    again = extract(files, tmp_path / "ray", backbone=small_backbone, options=_options(ray_cluster))
    assert (again.failed, again.newly_failed, again.lost_actors) == (1, 0, 0)


@pytest.mark.slow
def test_a_job_stops_without_failed_images_if_every_actor_dies(
    collection: Path, tmp_path: Path, small_backbone: Backbone, ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penult.pipeline.cluster.engine.LOSSES_IN_A_ROW", 4)
    with pytest.raises(EngineError, match="4 actors in a row were lost"):
        extract(
            _placed(collection, Slow(poison="png")),
            tmp_path / "store",
            backbone=small_backbone,
            options=_options(ray_cluster),
        )
    assert len(open_store(tmp_path / "store").catalog.ledger) == 0


@pytest.mark.slow
def test_a_killed_node_costs_only_time(
    collection: Path, tmp_path: Path, small_backbone: Backbone, ray_cluster: Any
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    _enlarge(collection, 120)  # work for longer than all actors take to start
    files = _placed(collection, Slow(seconds=0.15, marks=marks))

    def kill_a_node_at_work() -> bool:
        named = {node["ObjectStoreSocketName"]: node["NodeID"] for node in ray.nodes()}
        mortal = {named[node.plasma_store_socket_name]: node for node in ray_cluster.worker_nodes}
        for mark in marks.iterdir():
            if mark.name in mortal:  # the head is not, since this process hangs on it
                ray_cluster.remove_node(mortal[mark.name], allow_graceful=False)
                return True
        return False

    kill = WhenNew(kill_a_node_at_work)
    options = _options(ray_cluster)
    receipt = extract(files, tmp_path / "ray", backbone=small_backbone, options=options, progress=kill)
    ray_cluster.add_node(num_cpus=1)
    assert kill.is_done
    assert receipt.lost_actors >= 1
    assert (receipt.found, receipt.new + receipt.reused, receipt.failed) == (150, 150, 0)
    assert (receipt.distinct_keys, receipt.is_complete) == (150, True)
    extract(collection, tmp_path / "local", backbone=small_backbone)
    _require_equal(tmp_path / "local", tmp_path / "ray")


DRIVER = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from penult.pipeline.extraction.extract import ExtractOptions, extract
from penult.pipeline.images.listing import ImageFile, list_images

class Slow:
    def read(self, file, most_bytes):
        time.sleep(0.1)
        return Path(file.path).read_bytes()

images, store, backbone, address = sys.argv[1:]
files = [ImageFile(f.path, f.size, f.mtime_ns, reader=Slow()) for f in list_images(images)]
extract(files, store, backbone=backbone, options=ExtractOptions(engine="ray", address=address))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restarted_driver_completes_the_job(
    collection: Path, tmp_path: Path, small_backbone: Backbone, ray_cluster: Any, number: signal.Signals
) -> None:
    _enlarge(collection, 90)
    small_backbone.save(tmp_path / "small.onnx")
    store = tmp_path / "store"
    arguments = [collection, store, tmp_path / "small.onnx", ray_cluster.address]
    with subprocess.Popen([sys.executable, "-c", DRIVER, *map(str, arguments)], stderr=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not list(store.glob("spaces/*/shards/*.h5")):
            time.sleep(0.01)
        driver.send_signal(number)
        assert driver.wait(timeout=30) != 0
    kept = len(open_store(store).spaces()[0])
    assert 0 < kept < 120
    receipt = extract(collection, store, backbone=small_backbone, options=_options(ray_cluster))
    assert (receipt.found, receipt.new + receipt.reused, receipt.distinct_keys) == (120, 120, 120)
    assert receipt.reused >= kept
    extract(collection, tmp_path / "local", backbone=small_backbone)
    _require_equal(tmp_path / "local", store)


@pytest.mark.slow
@pytest.mark.parametrize("poison", ["none", "poison"])
def test_any_node_can_decode_for_one_actor(
    collection: Path, tmp_path: Path, small_backbone: Backbone, ray_cluster: Any, poison: str
) -> None:
    _enlarge(collection, 60)
    if poison != "none":
        (collection / "red" / "poison.png").write_bytes((collection / "red" / "0.png").read_bytes() + b"!")
    (collection / "red" / "torn.png").write_bytes(b"torn")
    (collection / "blue" / "copy.png").write_bytes((collection / "red" / "0.png").read_bytes())
    (tmp_path / "marks").mkdir()
    files = _placed(collection, Slow(marks=tmp_path / "marks", nodes=2, poison=poison))
    receipt = extract(
        files, tmp_path / "ray", backbone=small_backbone, options=_options(ray_cluster, decoders=NODES - 1)
    )
    assert (receipt.actors, receipt.workers) == (1, NODES - 1)
    assert len(list((tmp_path / "marks").iterdir())) >= 2
    assert receipt.failed == (1 if poison == "none" else 2)
    assert (receipt.new + receipt.reused, receipt.distinct_keys, receipt.is_complete) == (91, 90, True)
    plain = [file for file in list_images(collection) if "poison" not in file.path]
    extract(plain, tmp_path / "local", backbone=small_backbone)
    _require_equal(tmp_path / "local", tmp_path / "ray")


@pytest.mark.slow
def test_two_drivers_share_a_cluster(
    collection: Path, tmp_path: Path, small_backbone: Backbone, ray_cluster: Any
) -> None:
    _enlarge(collection, 90)
    small_backbone.save(tmp_path / "small.onnx")
    arguments = [collection, tmp_path / "store", tmp_path / "small.onnx", ray_cluster.address]
    drivers = [subprocess.Popen([sys.executable, "-c", DRIVER, *map(str, arguments)]) for _ in range(2)]
    assert [driver.wait(timeout=120) for driver in drivers] == [0, 0]
    store = open_store(tmp_path / "store")
    for job in store.catalog.jobs.all():
        assert job.receipt is not None
        assert (job.receipt["is_complete"], job.receipt["distinct_keys"]) == (True, 120)
    extract(collection, tmp_path / "local", backbone=small_backbone)
    _require_equal(tmp_path / "local", tmp_path / "store")


@pytest.mark.slow
def test_nodes_need_no_shared_file_system_with_object_storage(
    collection: Path,
    tmp_path: Path,
    small_backbone: Backbone,
    ray_cluster: Any,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _enlarge(collection, 70)
    (tmp_path / "marks").mkdir()
    files = _placed(collection, Slow(marks=tmp_path / "marks", nodes=NODES))
    url = f"{bucket}/features"
    receipt = extract(files, url, backbone=small_backbone, options=_options(ray_cluster))
    assert (receipt.new, receipt.distinct_keys, receipt.actors) == (100, 100, NODES)
    extract(collection, tmp_path / "local", backbone=small_backbone)
    differences = diff_stores(open_store(tmp_path / "local"), open_store(url))
    assert [(found.is_empty, found.same) for found in differences] == [(True, 100)]
    assert len(open_store(url).catalog.files) == 100
