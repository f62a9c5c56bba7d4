"""`penult extract` is killed repeatedly at any moment: it loses no committed row and completes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from penult.exporters.backbone import Backbone
from penult.pipeline.extraction.extract import extract
from penult.store import Space, Store, open_store

# The verb with early and frequent commits, so that kills interrupt them.
VERB = """
import sys, time
import penult.pipeline.extraction.worker_pool as pool
import penult.pipeline.extraction.engines as engines
import penult.pipeline.extraction.worker as worker
import penult.pipeline.extraction.writer as writer
writer.FIRST_COMMIT_SECONDS = 0.01
writer.LAST_COMMIT_SECONDS = 0.04
pool.BATCH_FILES = engines.CLAIM_FILES = 1
read = worker.read_file
def slowly(file):
    time.sleep(0.02)
    return read(file)
worker.read_file = slowly
from penult.pipeline.cli import main
main()
"""

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
EXITS = {
    signal.SIGKILL: {-signal.SIGKILL},
    signal.SIGTERM: {130, -signal.SIGTERM},
    signal.SIGINT: {130, -signal.SIGINT},
}

NEW_FAILURES = 3  # one of the images is damaged
DONE = {0, NEW_FAILURES}


def _start(room: Path) -> subprocess.Popen[bytes]:
    arguments = ["extract", "photos", "--backbone", "small.onnx", "--store", "store", "--workers", "2"]
    return subprocess.Popen(
        [sys.executable, "-c", VERB, *arguments],
        cwd=room,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def _rows(space: Space) -> dict[bytes, bytes]:
    rows = space.load(dtype="float16")
    return {key.tobytes(): row.tobytes() for key, row in zip(rows.keys, rows.features, strict=True)}


def _sole_space(store: Store) -> Space | None:
    spaces = store.spaces()
    assert len(spaces) <= 1
    return spaces[0] if spaces else None


def _kill_and_go_on(room: Path, kills: int) -> None:
    """Kills runs until a store is complete, then starts the next store; checks the store after each kill."""
    chance = random.Random(7)
    extract(room / "photos", room / "whole", backbone=room / "small.onnx")
    whole = _sole_space(open_store(room / "whole"))
    assert whole is not None
    truth = _rows(whole)
    began = time.monotonic()
    with _start(room) as first:
        assert first.wait(timeout=120) == NEW_FAILURES
    longest = 1.1 * (time.monotonic() - began)
    shutil.rmtree(room / "store")
    kept: dict[bytes, bytes] = {}
    killed = completed = cut_short = 0
    while killed < kills:
        number = chance.choice(SIGNALS)
        with _start(room) as job:
            try:
                code = job.wait(timeout=chance.uniform(0, longest))
            except subprocess.TimeoutExpired:
                job.send_signal(number)
                code = job.wait(timeout=60)
                killed += 1
                told = job.stderr.read() if job.stderr else b""
                # Where Ctrl-C meets Python while it loads libraries, some of them fail in their own way.
                is_unborn = number == signal.SIGINT and code == 1 and b"Listing" not in told
                assert code in EXITS[number] | DONE or is_unborn, (number, code, told)
                cut_short += code not in DONE
            else:
                assert code in DONE, job.stderr and job.stderr.read()
        space = _sole_space(open_store(room / "store")) if (room / "store" / "store.json").exists() else None
        found = _rows(space) if space is not None else {}
        assert found.items() >= kept.items(), "a committed row is lost"
        assert truth.items() >= found.items(), "a row is not what an uninterrupted job gives"
        kept = found
        if code in DONE or len(kept) == len(truth):
            _complete(room, truth)
            completed += 1
            kept = {}
    _complete(room, truth)
    assert cut_short > kills / 2, "most kills met a job at work"


def _complete(room: Path, truth: dict[bytes, bytes]) -> None:
    """Completes the job without kills, then starts with a new store."""
    receipt = extract(room / "photos", room / "store", backbone=room / "small.onnx")
    assert receipt.is_complete
    assert receipt.found == receipt.new + receipt.reused + receipt.failed
    assert (receipt.found, receipt.failed) == (len(truth) + 1, 1)
    space = _sole_space(open_store(room / "store"))
    assert space is not None
    assert _rows(space) == truth
    assert space.verify().is_sound
    assert open_store(room / "store").catalog.find_damage() == []
    assert len(open_store(room / "store").catalog.ledger) == 1
    shutil.rmtree(room / "store")


@pytest.fixture
def room(tmp_path: Path, collection: Path, small_backbone: Backbone) -> Path:
    """A folder with images, one of them damaged, and a small backbone."""
    small_backbone.save(tmp_path / "small.onnx")
    (collection / "red" / "torn.png").write_bytes(b"torn")
    return tmp_path


def test_a_repeatedly_killed_job_completes_without_loss(room: Path) -> None:
    _kill_and_go_on(room, 3)


@pytest.mark.slow
def test_a_job_that_is_killed_two_hundred_times_completes_without_loss(room: Path) -> None:
    from PIL import Image

    chance = np.random.default_rng(11)
    for number in range(30):
        Image.fromarray(chance.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(room / "photos" / f"{number}.png")
    _kill_and_go_on(room, 200)
