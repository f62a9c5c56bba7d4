"""Extraction: every image ends once, in rows or in the ledger."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import penult.pipeline.extraction.job as job_module
from penult.errors import ImageError, InputError, ProviderError, UnknownNameError
from penult.exporters.backbone import Backbone
from penult.pipeline.extraction import worker
from penult.pipeline.extraction.extract import ExtractOptions, extract
from penult.pipeline.extraction.receipt import Receipt
from penult.pipeline.images.decode import decode
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.reading import read_file
from penult.pipeline.runtime.session import Session
from penult.store import Store, key_of, open_store

TAPS = ("penultimate", "stage1")


def _counts(receipt: Receipt) -> tuple[int, int, int, int]:
    assert receipt.found == receipt.new + receipt.reused + receipt.failed
    return receipt.found, receipt.new, receipt.reused, receipt.failed


def _content(store: Store) -> dict[str, tuple[bytes, bytes]]:
    loaded = {space.spec.id: space.load(dtype="float32") for space in store.spaces()}
    return {name: (rows.keys.tobytes(), rows.features.tobytes()) for name, rows in loaded.items()}


def test_rows_equal_those_of_a_plain_loop(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    store = open_store(tmp_path / "store")
    receipt = extract(collection, store, backbone=small_backbone, taps=TAPS, options=ExtractOptions(dtype="float32"))
    assert _counts(receipt) == (30, 30, 0, 0)
    assert receipt.rows == 60
    session = Session(small_backbone, TAPS)
    for path in sorted(collection.rglob("*.png")):
        data = path.read_bytes()
        rows = session.run(decode(data, small_backbone.card.preprocessing)[np.newaxis])
        for tap in TAPS:
            stored = store.find_space(small_backbone.name, tap).gather([key_of(data)])
            np.testing.assert_array_equal(stored, rows[tap])


@pytest.mark.parametrize("options", [ExtractOptions(workers=1, batch_size=1), ExtractOptions(workers=5, batch_size=32)])
def test_rows_do_not_depend_on_batches_and_workers(
    collection: Path, tmp_path: Path, small_backbone: Backbone, options: ExtractOptions
) -> None:
    plain, other = open_store(tmp_path / "plain"), open_store(tmp_path / "other")
    extract(collection, plain, backbone=small_backbone, taps=TAPS)
    extract(collection, other, backbone=small_backbone, taps=TAPS, options=options)
    assert _content(plain) == _content(other)


def test_a_second_run_opens_no_file(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(collection, tmp_path / "store", backbone=small_backbone)
    monkeypatch.setattr(job_module, "start_engine", None)  # to open a session, or a worker, would fail
    assert _counts(extract(collection, tmp_path / "store", backbone=small_backbone)) == (30, 0, 30, 0)


def test_only_new_and_changed_images_are_extracted(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    store = tmp_path / "store"
    extract(collection, store, backbone=small_backbone)
    shutil.copy(collection / "red" / "0.png", collection / "red" / "copy.png")
    (collection / "red" / "1.png").rename(collection / "red" / "renamed.png")
    (collection / "green" / "0.png").write_bytes((collection / "blue" / "0.png").read_bytes() + b"edited")
    os.utime(collection / "blue" / "1.png")
    assert _counts(extract(collection, store, backbone=small_backbone)) == (31, 1, 30, 0)


def test_each_tap_and_backbone_has_its_own_space(
    collection: Path, tmp_path: Path, make_backbone: Callable[[int], Backbone]
) -> None:
    store = open_store(tmp_path / "store")
    assert _counts(extract(collection, store, backbone=make_backbone(0)))[1] == 30
    assert _counts(extract(collection, store, backbone=make_backbone(0), taps=["stage1"]))[1] == 30
    assert _counts(extract(collection, store, backbone=make_backbone(1)))[1] == 30
    assert len(store.spaces()) == 3
    assert [len(space) for space in store.spaces()] == [30, 30, 30]


def test_identical_files_are_one_sample(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    for number in range(50):
        shutil.copy(collection / "red" / "0.png", collection / "blue" / f"copy-{number}.png")
    receipt = extract(collection, tmp_path / "store", backbone=small_backbone, options=ExtractOptions(workers=4))
    assert _counts(receipt) == (80, 30, 50, 0)
    assert receipt.rows == 30


def test_bad_images_end_in_the_ledger_and_do_not_stop_the_job(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    (collection / "red" / "empty.jpg").write_bytes(b"")
    (collection / "red" / "torn.png").write_bytes((collection / "red" / "0.png").read_bytes()[:500])
    (collection / "red" / "dangling.png").symlink_to("nowhere")
    (collection / "red" / "notes.txt").write_text("no image")
    if hasattr(os, "mkfifo"):
        os.mkfifo(collection / "red" / "pipe.png")
    store = open_store(tmp_path / "store")
    receipt = extract(collection, store, backbone=small_backbone)
    bad = 5 if hasattr(os, "mkfifo") else 4
    assert _counts(receipt) == (30 + bad, 30, 0, bad)
    assert receipt.newly_failed == bad
    reasons = {Path(failure.path).name: failure.reason for failure in store.catalog.ledger.failures()}
    assert "empty" in reasons["empty.jpg"]
    assert "damaged" in reasons["torn.png"]
    assert "cannot be read" in reasons["dangling.png"]
    assert "not a recognised image" in reasons["notes.txt"]

    again = extract(collection, store, backbone=small_backbone)
    assert _counts(again) == (30 + bad, 0, 30, bad)
    assert again.newly_failed == 0

    (collection / "red" / "torn.png").write_bytes((collection / "red" / "0.png").read_bytes() + b"mended")
    mended = extract(collection, store, backbone=small_backbone)
    assert mended.new == 1
    assert "torn.png" not in {Path(failure.path).name for failure in store.catalog.ledger.failures()}
    assert (
        extract(collection, store, backbone=small_backbone, options=ExtractOptions(retry_failed=True)).failed == bad - 1
    )


def test_a_file_that_failed_for_external_reasons_is_tried_again(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unchanged file that was unreadable for a while is not lost."""
    store = open_store(tmp_path / "store")
    image = collection / "red" / "0.png"
    read = read_file

    def refuse(file: ImageFile) -> bytes:
        if file.path == str(image):
            raise PermissionError(13, "Permission denied")
        return read(file)

    monkeypatch.setattr(worker, "read_file", refuse)
    assert _counts(extract(collection, store, backbone=small_backbone)) == (30, 29, 0, 1)
    assert [failure.reason for failure in store.catalog.ledger.failures()] == [
        "the file cannot be read: Permission denied"
    ]
    again = extract(collection, store, backbone=small_backbone)
    assert (_counts(again), again.newly_failed) == ((30, 0, 29, 1), 0)
    monkeypatch.undo()
    assert _counts(extract(collection, store, backbone=small_backbone)) == (30, 1, 29, 0)
    assert not len(store.catalog.ledger)


def test_ledger_entries_of_deleted_files_are_removed(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    for path in (collection / "red" / "bad.png", collection / "more" / "bad.png", tmp_path / "elsewhere" / "bad.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"bad")
    store = open_store(tmp_path / "store")
    extract(collection, store, backbone=small_backbone)
    extract(tmp_path / "elsewhere", store, backbone=small_backbone)
    (collection / "red" / "bad.png").unlink()
    shutil.rmtree(collection / "more")
    (tmp_path / "elsewhere" / "bad.png").unlink()
    extract(collection, store, backbone=small_backbone, options=ExtractOptions(limit=5))
    assert len(store.catalog.ledger) == 3
    extract(collection, store, backbone=small_backbone)
    left = {Path(row.path).parent.name for row in store.catalog.ledger.failures()}
    assert left == {"elsewhere"}  # which lay outside of this job


def test_a_failed_file_loses_its_catalog_entry(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    """Rehashing detects damage that leaves size and time unchanged, and the ledger keeps it."""
    store = open_store(tmp_path / "store")
    extract(collection, store, backbone=small_backbone)
    image = collection / "red" / "0.png"
    before = image.stat()
    image.write_bytes(b"Z" * before.st_size)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    rehashed = extract(collection, store, backbone=small_backbone, options=ExtractOptions(rehash=True))
    assert _counts(rehashed) == (30, 0, 29, 1)
    assert _counts(extract(collection, store, backbone=small_backbone)) == (30, 0, 29, 1)
    assert str(image) not in {file.path for file in store.catalog.files.all()}


def test_a_worker_has_few_large_files_in_memory(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    read = worker.Worker._read

    def count(self: worker.Worker, files: Sequence[ImageFile], outcome: worker.Outcome) -> object:
        held.append(sum(file.size for file in files))
        return read(self, files, outcome)

    largest = max(path.stat().st_size for path in collection.rglob("*.png"))
    monkeypatch.setattr(worker, "PORTION_BYTES", 3 * largest)
    monkeypatch.setattr(worker.Worker, "_read", count)
    assert _counts(extract(collection, tmp_path / "store", backbone=small_backbone)) == (30, 30, 0, 0)
    assert 0 < max(held) <= 3 * largest


def test_only_one_very_large_file_is_in_memory(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy: list[int] = []
    most: list[int] = []
    decoded = worker.Worker._decode

    def slowly(self: worker.Worker, *given: object) -> object:
        busy.append(1)
        most.append(len(busy))
        time.sleep(0.02)
        busy.pop()
        return decoded(self, *given)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(worker.Worker, "_decode", slowly)
    for portion, is_shared in ((1, False), (worker.PORTION_BYTES, True)):
        most.clear()
        monkeypatch.setattr(worker, "PORTION_BYTES", portion)
        extract(collection, tmp_path / str(portion), backbone=small_backbone, options=ExtractOptions(workers=4))
        assert (max(most) > 1) is is_shared


def test_images_can_be_a_list_of_paths_and_taps_a_string(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    paths: list[str | Path] = [collection / "red" / "0.png", str(collection / "red" / "1.png")]
    assert extract(paths, tmp_path / "store", backbone=small_backbone, taps="penultimate").new == 2
    assert extract(collection, tmp_path / "store", backbone=small_backbone).reused == 2


@pytest.mark.parametrize("option", ["workers", "batch_size", "limit"])
def test_count_options_below_one_are_errors(option: str) -> None:
    with pytest.raises(InputError, match=f"The option {option} is 0"):
        replace(ExtractOptions(), **{option: 0})  # type: ignore[arg-type]  # the keyword is a parameter here


def test_strict_stops_at_the_first_bad_image_and_keeps_committed_rows(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    (collection / "red" / "torn.png").write_bytes(b"torn")
    store = open_store(tmp_path / "store")
    with pytest.raises(ImageError, match=r"torn\.png: .* not a recognised image"):
        extract(collection, store, backbone=small_backbone, options=ExtractOptions(strict=True))
    assert len(store.spaces()[0]) > 0
    with pytest.raises(ImageError, match=r"torn\.png"):
        extract(collection, store, backbone=small_backbone, options=ExtractOptions(strict=True))


def test_features_too_large_for_float16_fail_and_are_not_stored(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Session.run

    def too_bright(self: Session, pixels: np.ndarray) -> dict[str, np.ndarray]:
        return {name: rows * np.float32(1e5) for name, rows in run(self, pixels).items()}

    monkeypatch.setattr(Session, "_check", lambda self, backbone: None)
    monkeypatch.setattr(Session, "run", too_bright)
    receipt = extract(collection, tmp_path / "store", backbone=small_backbone)
    assert receipt.failed == 30
    reasons = {failure.reason for failure in open_store(tmp_path / "store").catalog.ledger.failures()}
    assert reasons == {"its features are not finite in float16"}


def test_wrong_reference_features_stop_the_job_before_the_first_row(
    collection: Path, tmp_path: Path, make_backbone: Callable[[int], Backbone]
) -> None:
    right, other = make_backbone(0), make_backbone(1)
    wrong = Backbone(right.model(right.outputs), replace(right.card, reference=other.card.reference))
    with pytest.raises(ValueError, match="computes different features"):
        extract(collection, tmp_path / "store", backbone=wrong)
    assert len(open_store(tmp_path / "store").spaces()[0]) == 0


def test_wrong_arguments_are_errors(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no image in .*empty"):
        extract(tmp_path / "empty", tmp_path / "store", backbone=small_backbone)
    assert not (tmp_path / "store").exists() or not open_store(tmp_path / "store").spaces()
    with pytest.raises(UnknownNameError, match=r"'penultimat'.*did you mean 'penultimate'"):
        extract(collection, tmp_path / "store", backbone=small_backbone, taps=["penultimat"])
    with pytest.raises(InputError, match="No tap"):
        extract(collection, tmp_path / "store", backbone=small_backbone, taps=[])
    with pytest.raises(InputError, match="'gpu'"):
        extract(collection, tmp_path / "store", backbone=small_backbone, options=ExtractOptions(provider="gpu"))


def test_a_requested_gpu_that_is_missing_is_an_error(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    from penult.pipeline.runtime.providers import cuda_obstacle

    if not cuda_obstacle():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ProviderError, match=r"CUDA cannot be used: \w+"):
        extract(collection, tmp_path / "store", backbone=small_backbone, options=ExtractOptions(provider="cuda"))


JOB = """
import sys, time
import penult.pipeline.extraction.worker as worker
from penult.pipeline.extraction.extract import ExtractOptions, extract
from penult.exporters import load_backbone
import penult.pipeline.extraction.writer as writer
writer.FIRST_COMMIT_SECONDS = 0.0
read = worker.read_file
def slowly(file):
    time.sleep(0.1)
    return read(file)
worker.read_file = slowly
import penult.pipeline.extraction.worker_pool as pool
pool.BATCH_FILES = 4
print("ready", flush=True)
receipt = extract(sys.argv[1], sys.argv[2], backbone=sys.argv[3], options=ExtractOptions(workers=2))
print(receipt.new, receipt.reused)
"""


def _start_job(collection: Path, store: Path, backbone: Path) -> subprocess.Popen[str]:
    job = subprocess.Popen(
        [sys.executable, "-c", JOB, str(collection), str(store), str(backbone)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "ready\n", job.stderr.read() if job.stderr else ""
    return job


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_job_continues_where_it_stopped(
    collection: Path, tmp_path: Path, small_backbone: Backbone, number: signal.Signals
) -> None:
    small_backbone.save(tmp_path / "small.onnx")
    store = tmp_path / "store"
    with _start_job(collection, store, tmp_path / "small.onnx") as job:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not list(store.glob("spaces/*/shards/**/*.h5")):
            time.sleep(0.02)
        job.send_signal(number)
        assert job.wait(timeout=30) != 0
    kept = len(open_store(store).spaces()[0])
    assert 0 < kept <= 30
    receipt = extract(collection, store, backbone=small_backbone)
    assert _counts(receipt) == (30, 30 - kept, kept, 0)
    extract(collection, tmp_path / "whole", backbone=small_backbone)
    assert _content(open_store(store)) == _content(open_store(tmp_path / "whole"))


def test_a_job_leaves_its_receipt_in_the_catalog(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    store = open_store(tmp_path / "store")
    receipt = extract(collection, store, backbone=small_backbone)
    (job,) = store.catalog.jobs.all()
    assert job.kind == "extract"
    assert receipt.is_complete
    assert not receipt.stopped
    assert job.receipt == receipt.to_json()
