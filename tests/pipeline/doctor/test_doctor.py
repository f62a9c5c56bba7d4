"""The doctor: installed libraries, problems, and the bottleneck."""

import json
from pathlib import Path

import numpy as np
import pytest

import penult.pipeline.doctor.installation as installation_module
from penult.errors import InputError
from penult.exporters.backbone import Backbone
from penult.pipeline.doctor.diagnosis import diagnose
from penult.pipeline.doctor.installation import inspect_installation
from penult.pipeline.extraction.extract import extract
from penult.pipeline.runtime.session import Session
from tests.pipeline.command_line import penult


def test_both_builds_of_onnx_runtime_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    one = inspect_installation()
    assert not [problem for problem in one.problems if "together" in problem]
    both = {"onnxruntime": "1.22.0", "onnxruntime-gpu": "1.22.0"}
    monkeypatch.setattr(installation_module, "installed_versions", lambda: both)
    (problem,) = [problem for problem in inspect_installation().problems if "together" in problem]
    assert "pip uninstall onnxruntime onnxruntime-gpu" in problem


def test_a_quota_and_a_busy_machine_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation_module, "usable_cores", lambda: 8)
    monkeypatch.setattr(installation_module, "allowed_cores", lambda: 1.5)
    monkeypatch.setattr("os.getloadavg", lambda: (7.0, 7.0, 7.0))
    problems = " ".join(inspect_installation().problems)
    assert "sees 8 cores but may use the time of 1.5" in problems
    assert "load 7.0" in problems


def test_the_slowest_part_is_the_bottleneck(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    found = diagnose(collection, tmp_path / "store", backbone=small_backbone, seconds=0.1)
    assert min(found.decode, found.session, found.rows_per_second) > 0
    assert found.expected < min(found.decode, found.session), "on a CPU both share the cores"
    assert not (tmp_path / "store").exists()
    run = Session._run_batch

    def slowly(self: Session, *arguments: object) -> object:
        time.sleep(0.05)
        return run(self, *arguments)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(Session, "_run_batch", slowly)
    slow = diagnose(collection, tmp_path / "store", backbone=small_backbone, seconds=0.1)
    assert slow.bottleneck == "session"
    assert slow.expected < 4 * slow.workers / 0.05


def test_images_of_any_source_are_measured(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    import tarfile

    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        tar.add(collection, "c")
    for images in (tmp_path / "c.tar", str(collection / "*" / "*.png")):
        found = diagnose(images, tmp_path / "store", backbone=small_backbone, seconds=0.05)
        assert found.image_bytes == pytest.approx(
            np.mean([path.stat().st_size for path in collection.rglob("*.png")]), abs=1
        )


def test_files_that_are_not_images_cannot_be_measured(tmp_path: Path, small_backbone: Backbone) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"none")
    with pytest.raises(InputError, match="None of 1 images can be decoded"):
        diagnose(tmp_path / "photos", tmp_path / "store", backbone=small_backbone)


def test_the_verb_prints_text_and_json(tmp_path: Path, small_backbone: Backbone) -> None:
    small_backbone.save(tmp_path / "small.onnx")
    words = ["doctor", "--backbone", "small.onnx", "--seconds", "0.1"]
    told = penult(*words, cwd=tmp_path).stdout
    assert "The bottleneck is" in told
    assert "onnxruntime" in told
    found = json.loads(penult(*words, "--json", cwd=tmp_path).stdout)
    assert found["provider"] in ("cpu", "cuda")
    assert {each["name"] for each in found["installation"]["providers"]} == {"cpu", "cuda", "tensorrt", "openvino"}
    assert found["image_bytes"] > 100_000, "two photos of its own"


def test_a_receipt_explains_the_provider(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    receipt = extract(collection, tmp_path / "store", backbone=small_backbone)
    if receipt.provider == "cpu":
        assert receipt.why_not_better
        assert f"It ran on cpu: {receipt.why_not_better}." in str(receipt)
