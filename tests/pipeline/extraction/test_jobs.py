"""Jobs under a scheduler: several on one store, in parts, with a time limit, from a file, with metrics."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import penult.pipeline.extraction.claims as claims_module
import penult.pipeline.extraction.worker_pool as pool_module
from penult.errors import InputError, MissingFileError, StoreWriteError, UnknownNameError
from penult.exporters.backbone import Backbone
from penult.pipeline.cli.app import app
from penult.pipeline.extraction.claims import Claims
from penult.pipeline.extraction.extract import ExtractOptions, extract
from penult.pipeline.extraction.job_file import extract_job, read_job_file
from penult.pipeline.extraction.receipt import Receipt, openmetrics_text
from penult.pipeline.extraction.recorder import Recorder
from penult.pipeline.extraction.writer import Tally
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.sharding import files_of_shard
from penult.store import Store, open_store
from tests.pipeline.command_line import penult

PENULT = Path(sys.executable).with_name("penult")


def _content(store: Store) -> dict[str, tuple[bytes, bytes]]:
    loaded = {space.spec.id: space.load(dtype="float32") for space in store.spaces()}
    return {name: (rows.keys.tobytes(), rows.features.tobytes()) for name, rows in loaded.items()}


# Two jobs on one store.

SLOW_JOB = """
import sys, time
import penult.pipeline.extraction.worker_pool as pool
import penult.pipeline.extraction.engines as engines
import penult.pipeline.extraction.worker as worker
from penult.pipeline.extraction.extract import ExtractOptions, extract
pool.BATCH_FILES = engines.CLAIM_FILES = 2
read = worker.read_file
def slowly(file):
    time.sleep(0.2)
    return read(file)
worker.read_file = slowly
print("ready", flush=True)
sys.stdin.readline()
receipt = extract(sys.argv[1], sys.argv[2], backbone=sys.argv[3], options=ExtractOptions(workers=1))
print(receipt.found, receipt.new, receipt.reused, receipt.failed, flush=True)
"""


def _start_slow_job(*arguments: Path) -> subprocess.Popen[str]:
    job = subprocess.Popen(
        [sys.executable, "-c", SLOW_JOB, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "ready\n"
    return job


def test_two_jobs_at_once_share_the_work(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    small_backbone.save(tmp_path / "small.onnx")
    (collection / "red" / "torn.png").write_bytes(b"torn")
    jobs = [_start_slow_job(collection, tmp_path / "store", tmp_path / "small.onnx") for _ in range(2)]
    counts = []
    for job in jobs:
        assert job.stdin is not None
        job.stdin.write("go\n")
        job.stdin.flush()
    for job in jobs:
        told, _ = job.communicate(timeout=60)
        counts.append(tuple(map(int, told.split())))
    for found, new, reused, failed in counts:
        assert (found, failed) == (31, 1)
        assert new > 3, "each has done its part"
        assert new + reused == 30
    assert sum(new for _, new, _, _ in counts) == 30, "and nothing was done twice"
    extract(collection, tmp_path / "alone", backbone=small_backbone)
    assert _content(open_store(tmp_path / "store")) == _content(open_store(tmp_path / "alone"))


def test_the_claims_of_a_killed_job_are_released(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    small_backbone.save(tmp_path / "small.onnx")
    store = tmp_path / "store"
    with _start_slow_job(collection, store, tmp_path / "small.onnx") as job:
        assert job.stdin is not None
        job.stdin.write("go\n")
        job.stdin.flush()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not _claimed(store):
            time.sleep(0.01)
        job.kill()
    assert _claimed(store), "a job that is killed lets nothing go"
    began = time.monotonic()
    receipt = extract(collection, store, backbone=small_backbone)
    assert (receipt.found, receipt.new + receipt.reused, receipt.is_complete) == (30, 30, True)
    assert time.monotonic() - began < claims_module.SILENT_SECONDS / 2, "nobody waits for the dead of the same machine"
    assert not _claimed(store)


def _claimed(store: Path) -> int:
    try:
        with sqlite3.connect(store / "claims.sqlite") as file:
            return int(file.execute("SELECT count(*) FROM claims").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_a_claim_belongs_to_one_job_until_it_is_released(tmp_path: Path) -> None:
    with Claims(tmp_path, "space") as one, Claims(tmp_path, "space") as other, Claims(tmp_path, "else") as third:
        assert one.take(["a", "b"]) == [True, True]
        assert other.take(["b", "c"]) == [False, True]
        assert other.has_company
        assert third.take(["a"]) == [True], "another space is other work"
        assert one.take(["a"]) == [True]
        one.release(["b", "c"])
        assert other.take(["a", "b"]) == [False, True]
        assert one.take(["c"]) == [False]
    assert _claimed(tmp_path) == 0


def test_a_job_on_another_machine_that_stops_counts_as_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(claims_module, "BEAT_SECONDS", 60.0)
    with Claims(tmp_path, "space") as one:
        assert one.take(["a"]) == [True]
        with sqlite3.connect(tmp_path / "claims.sqlite") as file:
            file.execute("UPDATE jobs SET host = 'elsewhere', pid = 1")
        with Claims(tmp_path, "space") as other:
            assert other.take(["a"]) == [False]
            time.sleep(0.3)
            with sqlite3.connect(tmp_path / "claims.sqlite") as file:
                file.execute("UPDATE jobs SET beat = beat + 1 WHERE host = 'elsewhere'")
            assert other.take(["a"]) == [False]
            time.sleep(0.3)
            assert other.take(["a"]) == [False], "it has shown that it lives since"
            time.sleep(0.3)
            assert other.take(["a"]) == [True]


def test_a_job_works_alone_without_a_claims_file(tmp_path: Path) -> None:
    (tmp_path / "claims.sqlite").mkdir()
    with Claims(tmp_path, "space") as claims:
        assert claims.take(["a"]) == [True]
        assert "not shared" in claims.note
    (tmp_path / "claims.sqlite").rmdir()
    (tmp_path / "claims.sqlite").write_bytes(b"no database, but long enough to be one" * 100)
    with Claims(tmp_path, "space") as claims:
        assert "damaged" in claims.note
        assert claims.take(["a"]) == [True]
        with Claims(tmp_path, "space") as other:
            assert other.take(["a"]) == [False], "and it was made anew"


def test_a_job_that_cannot_share_its_work_reports_it(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    store = open_store(tmp_path / "store")
    (tmp_path / "store" / "claims.sqlite").mkdir()
    receipt = extract(collection, store, backbone=small_backbone)
    assert receipt.new == 30
    assert "Note: work is not shared with other jobs on this store: " in str(receipt)
    assert receipt.to_json()["note"] == receipt.note


# A part of the work.


def test_the_parts_of_a_collection_are_disjoint_and_complete(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    whole, parts = open_store(tmp_path / "whole"), open_store(tmp_path / "parts")
    extract(collection, whole, backbone=small_backbone)
    receipts = [
        extract(collection, parts, backbone=small_backbone, options=ExtractOptions(shard=f"{number}/4"))
        for number in range(1, 5)
    ]
    assert all(receipt.new == receipt.found > 0 for receipt in receipts)
    assert sum(receipt.found for receipt in receipts) == 30
    assert _content(whole) == _content(parts)


def test_a_part_does_not_depend_on_the_location_of_the_folder() -> None:
    here = [ImageFile(f"/mnt/a/photos/{number}.jpg", 1, 1) for number in range(2000)]
    there = [ImageFile(f"/home/b/photos/{number}.jpg", 1, 1) for number in range(2000)]
    shards = [files_of_shard(here, f"{number}/4", "/mnt/a/photos/table.csv") for number in (1, 2, 3, 4)]
    others = [files_of_shard(there, f"{number}/4", "/home/b/photos/table.csv") for number in (1, 2, 3, 4)]
    names = [[Path(file.path).name for file in shard] for shard in shards]
    assert names == [[Path(file.path).name for file in shard] for shard in others]
    assert sorted(name for part in names for name in part) == sorted(f"{number}.jpg" for number in range(2000))
    assert all(400 < len(shard) < 600 for shard in shards)


@pytest.mark.parametrize("shard", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", ""])
def test_an_invalid_part_is_an_error(shard: str) -> None:
    with pytest.raises(InputError, match="such as 1/4"):
        ExtractOptions(shard=shard)


# For a time.


def test_a_job_at_its_time_limit_commits_and_reports_it(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "BATCH_FILES", 1)
    monkeypatch.setattr(pool_module, "IN_FLIGHT", 1)
    count = Recorder.count

    def slowly(self: Recorder, tally: Tally) -> None:
        time.sleep(0.1)
        count(self, tally)

    monkeypatch.setattr(Recorder, "count", slowly)
    store = open_store(tmp_path / "store")
    options = ExtractOptions(workers=1, batch_size=1, max_seconds=1.0)
    receipt = extract(collection, store, backbone=small_backbone, options=options)
    assert 0 < receipt.new < 30
    assert (receipt.is_complete, receipt.stopped) == (False, "max_seconds")
    assert receipt.rows == receipt.new == len(store.spaces()[0])
    assert f"{30 - receipt.done} images are left" in str(receipt)
    assert store.catalog.jobs.all()[-1].receipt == receipt.to_json()
    monkeypatch.undo()
    again = extract(collection, store, backbone=small_backbone, options=ExtractOptions(max_seconds=60))
    assert (again.new, again.reused, again.is_complete) == (30 - receipt.new, receipt.new, True)


def test_the_receipt_records_an_error(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    (collection / "red" / "torn.png").write_bytes(b"torn")
    store = open_store(tmp_path / "store")
    with pytest.raises(ValueError, match="torn"):
        extract(collection, store, backbone=small_backbone, options=ExtractOptions(strict=True))
    (job,) = store.catalog.jobs.all()
    assert job.receipt is not None
    assert (job.receipt["stopped"], job.receipt["is_complete"]) == ("error", False)


# On a store that cannot be written.


def test_a_read_only_store_is_enough_without_new_images(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    extract(collection, tmp_path / "store", backbone=small_backbone)
    store = open_store(tmp_path / "store")
    store.catalog._database.readonly = True
    receipt = extract(collection, store, backbone=small_backbone)
    assert (receipt.found, receipt.reused, receipt.is_complete) == (30, 30, True)
    (collection / "red" / "more.png").write_bytes((collection / "red" / "0.png").read_bytes() + b"!")
    with pytest.raises(StoreWriteError, match="There are new images, but the store is read-only"):
        extract(collection, store, backbone=small_backbone)


# In loads.


def test_large_files_make_small_batches() -> None:
    sizes = [10] * 20 + [3 << 20] * 3 + [9 << 20] * 2 + [-1] * 3
    files = [ImageFile(str(number), size, 1) for number, size in enumerate(sizes)]
    loads = list(pool_module.file_batches(files, 16))
    assert [len(load) for load in loads] == [16, 5, 1, 1, 1, 1, 3]
    assert [file for load in loads for file in load] == files


# Watched from outside.


def test_metrics_are_well_formed_and_end_with_the_receipt(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    path = tmp_path / "penult.prom"
    receipt = extract(
        collection, tmp_path / "store", backbone=small_backbone, options=ExtractOptions(metrics=str(path))
    )
    assert list(tmp_path.glob(".penult.prom*")) == [], "nothing half-written is left"
    lines = path.read_text().splitlines()
    assert lines[-1] == "# EOF"
    types = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE")}
    values = {}
    for line in lines[:-1]:
        if not line.startswith("#"):
            name, labels, value = re.fullmatch(r"([a-z_]+)(\{[a-z]+=\"[a-z]+\"\})? (\S+)", line).groups()  # type: ignore[union-attr]  # or the test fails
            assert types[name.removesuffix("_total")] == ("counter" if name.endswith("_total") else "gauge")
            values[name + (labels or "")] = float(value)
    assert values["penult_extract_found_images"] == receipt.found == 30
    assert values['penult_extract_images_total{outcome="new"}'] == receipt.new == 30
    assert values["penult_extract_rows_total"] == 30
    assert values["penult_extract_running"] == 0
    assert values["penult_extract_complete"] == 1
    assert values['penult_extract_busy_seconds_total{stage="session"}'] > 0
    assert "penult_extract_running 1" in openmetrics_text(Receipt(found=3), is_over=False)


def test_metrics_that_cannot_be_written_are_an_error(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    options = ExtractOptions(metrics=str(tmp_path / "nowhere" / "penult.prom"))
    with pytest.raises(InputError, match=r"metrics cannot be written to .*nowhere"):
        extract(collection, tmp_path / "store", backbone=small_backbone, options=options)


# From a file.


def test_a_job_file_sets_everything(
    collection: Path, tmp_path: Path, make_backbone: Callable[[int], Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_backbone(0).save(tmp_path / "zero.onnx")
    make_backbone(1).save(tmp_path / "one.onnx")
    (tmp_path / "job.toml").write_text(
        """
        images = ["photos/red", "photos/blue"]
        store = "kept"
        taps = ["penultimate", "stage1"]
        workers = 1
        dtype = "float32"
        metrics = "penult.prom"

        [[backbone]]
        name = "zero.onnx"

        [[backbone]]
        name = "one.onnx"
        taps = "stage1"
        """
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    receipts = extract_job(tmp_path / "job.toml")
    assert [(receipt.found, receipt.new, receipt.rows) for receipt in receipts] == [(20, 20, 40), (20, 20, 20)]
    spaces = open_store(tmp_path / "kept", create=False).spaces()
    assert [(space.spec.backbone, space.spec.tap, space.spec.dtype, len(space)) for space in spaces] == [
        ("small-0", "penultimate", "float32", 20),
        ("small-0", "stage1", "float32", 20),
        ("small-1", "stage1", "float32", 20),
    ]
    assert (tmp_path / "penult.prom").is_file()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('images = "p"\nworker = 2\n', r"'worker'.*did you mean 'workers'"),
        ('images = "p"\n\nworkers = "two"\n', "workers is 'two'. Expected: a whole number"),
        ('images = "p"\nworkers = true\n', "workers is True"),
        ('images = "p"\nworkers = 0\n', "workers is 0"),
        ('images = "p"\nmax_seconds = -1\n', "max_seconds is -1"),
        ('images = "p"\ndtype = "float8"\n', "one of 'float16', 'float32'"),
        ('images = "p"\nstrict = 1\n', "true or false"),
        ('images = "p"\nshard = "9/4"\n', "shard is '9/4'"),
        ("images = 3\n", "images is 3"),
        ("store = 's'\nimages = []\n", "no images are named"),
        ('images = "p"\nviews = "hflop"\n', "No view is called 'hflop'"),
        ('images = "p"\nprovider = "gpu"\n', "provider is 'gpu'. Expected: one of auto, cpu, cuda"),
        ('images = "p"\n\n[extract]\nworkers = 2\n', "No option is called 'extract'"),
        ('store = "s"\n[images]\na = 1\n', "images is {'a': 1}"),
        ('images = "p"\n[backbone]\nname = "a"\n', "backbone is {'name': 'a'}"),
        ('images = "p"\nnice = 20\n', "nice is 20. Expected: a whole number from 0 to 19"),
        ('images = "p"\nnice = true\n', "nice is True"),
        ('images = "p"\n[[backbone]]\nname = "a"\n[[backbone]]\nnam = "b"\n', r"'nam'.*did you mean 'name'"),
        ('images = "p"\n[[backbone]]\nname = "a"\n[[backbone]]\ntaps = ["b"]\n', "no name"),
        ('images = "p"\n[[backbone]]\nname = "a"\ntaps = [1]\n', r"taps is \[1\]"),
    ],
)
def test_an_error_in_a_job_file_names_the_file_and_the_key(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "job.toml").write_text(text)
    with pytest.raises((InputError, UnknownNameError), match=rf"^job\.toml: .*{told}"):
        read_job_file(tmp_path / "job.toml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('store = "s"\nimages = "nowhere"\n', "no folder or file"),
        ('images = "photos"\nbackbone = "lite"\n', "No backbone is called 'lite'"),
        ('images = "photos"\n\nbackbone = "none.onnx"\n', "none.onnx does not exist"),
        ('images = "photos"\nbackbone = "small.onnx"\ntaps = "last"\n', "called 'last'"),
        ('images = "photos"\n[[backbone]]\nname = "small.onnx"\n[[backbone]]\nname = "x"\n', "called 'x'"),
        ('images = "photos"\n[[backbone]]\nname = "small.onnx"\ntaps = "last"\n', "called 'last'"),
    ],
)
def test_a_missing_source_backbone_or_tap_of_a_job_file_is_an_early_error(
    collection: Path, tmp_path: Path, small_backbone: Backbone, text: str, told: str
) -> None:
    small_backbone.save(tmp_path / "small.onnx")
    (tmp_path / "job.toml").write_text(text)
    done = CliRunner().invoke(app, ["extract", "--job", str(tmp_path / "job.toml")])
    assert isinstance(done.exception, MissingFileError | UnknownNameError)
    assert re.match(rf"job\.toml: (images|backbone): .*{told}", str(done.exception))
    assert not (tmp_path / "penult-store").exists()


def test_an_unusable_job_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("images = \n")
    with pytest.raises(InputError, match=r"not TOML: .*line 1"):
        read_job_file(tmp_path / "job.toml")
    (tmp_path / "job.toml").write_text("workers = 2\n")
    with pytest.raises(InputError, match=r"job\.toml: no images are named"):
        read_job_file(tmp_path / "job.toml")
    with pytest.raises(MissingFileError, match="no job file"):
        read_job_file(tmp_path / "none.toml")


def test_the_command_line_runs_job_files_with_documented_exit_codes(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    small_backbone.save(tmp_path / "small.onnx")
    (tmp_path / "job.toml").write_text('images = "photos"\nbackbone = "small.onnx"\n')

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return penult("extract", *arguments, cwd=tmp_path)

    nice = [str(PENULT), "extract", "--job", "job.toml", "--json", "--nice", "5"]  # which holds for its whole process
    late = subprocess.run(nice, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert late.returncode == 0, late.stderr
    assert json.loads(late.stdout)["new"] == 30
    beside = run("--job", "job.toml", "--workers", "2")
    assert (beside.returncode, beside.stdout) == (2, "")
    assert "--workers cannot be combined with --job" in beside.stderr
    assert run().returncode == 2
    (tmp_path / "wrong.toml").write_text('images = "photos"\nworkers = 0\n')
    for words in (("photos", "--shard", "7"), ("--job", "wrong.toml")):
        wrong = run(*words)
        assert (wrong.returncode, "Expected: " in wrong.stderr) == (2, True)
    again = run("photos", "--backbone", "small.onnx", "--rehash", "--max-seconds", "0.000001")
    assert again.returncode == 4
    assert "30 images are left for the next run" in again.stdout


def test_a_job_file_can_lower_the_priority_of_its_process(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_backbone.save(tmp_path / "small.onnx")
    (tmp_path / "job.toml").write_text('images = "photos"\nbackbone = "small.onnx"\nnice = 7\n')
    given: list[int] = []
    monkeypatch.setattr(os, "nice", given.append)
    for words in ([], ["--nice", "3"]):
        done = CliRunner().invoke(app, ["extract", "--job", str(tmp_path / "job.toml"), *words])
        assert done.exit_code == 0, done.output
    assert given == [7, 3], "the command line overrides the file"
