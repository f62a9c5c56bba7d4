"""The command line as a new user meets it: what it prints, how it exits, and what it says when something is wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from penult import __version__
from penult.exporters.backbone import Backbone
from penult.pipeline.cli.app import VERBS, app
from tests.pipeline.command_line import penult

PENULT = Path(sys.executable).with_name("penult")


def _alone(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs what only a process of its own can show."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [PENULT, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, env=environment, check=False
    )


def _refused(*arguments: object, cwd: Path, code: int = 1) -> str:
    """Runs what must fail, and returns what it says."""
    done = penult(*arguments, cwd=cwd)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout or done.stdout.startswith('{"error"')
    return " ".join(done.stderr.split())


@pytest.fixture
def room(tmp_path: Path, collection: Path, small_backbone: Backbone) -> Path:
    """A folder with images in ``photos`` and a small backbone in ``small.onnx``."""
    small_backbone.save(tmp_path / "small.onnx")
    return tmp_path


def test_a_reader_who_has_seen_enough_is_no_failure(room: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([PENULT, "backbones"], cwd=room, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_the_operating_system_refuses_is_told_as_all_errors_are(room: Path) -> None:
    (room / "file").touch()
    told = _refused("demo", "file/demo", cwd=room)
    assert "'file/demo" in told
    assert "Not a directory. Expected: " in told
    assert "What to do: " in told


def test_the_way_of_a_new_user(room: Path) -> None:
    fitted = _alone("fit", "photos", "--backbone", "small.onnx", cwd=room)
    assert fitted.returncode == 0, fitted.stderr
    assert "30 images found: 30 new, 0 reused, 0 failed" in fitted.stdout
    assert "100.0% of" in fitted.stdout
    assert "Extracting: 30 images" in fitted.stderr, "progress is plain lines where nobody watches"

    again = json.loads(penult("fit", "photos", "--backbone", "small.onnx", "--json", cwd=room).stdout)
    assert again["receipt"]["new"] == 0
    assert (room / again["report"]).is_file()

    predicted = penult("predict", again["model"], "photos/red", "--json", cwd=room)
    lines = [json.loads(line) for line in predicted.stdout.splitlines()]
    assert len(lines) == 10
    assert {line["label"] for line in lines} == {"red"}
    assert set(lines[0]) == {"path", "label", "probabilities"}

    receipt = json.loads(penult("extract", "photos", "--backbone", "small.onnx", "--json", cwd=room).stdout)
    names = {"found", "new", "reused", "failed", "rows", "seconds", "images_per_second", "spaces"}
    assert names <= set(receipt)
    assert receipt["reused"] == 30

    trained = json.loads(penult("train", "photos", "--head", "lda", "--json", cwd=room).stdout)
    assert trained["head"] == "photos-lda"
    assert trained["accuracy"] == 1.0
    assert Path(trained["model"]).name == "model.onnx"

    bundled = penult("bundle", "photos-lda", "-o", "lda.onnx", cwd=room)
    assert bundled.returncode == 0, bundled.stderr
    assert (room / "lda.onnx").is_file()

    heads = json.loads(penult("heads", "--json", cwd=room).stdout)
    assert set(heads) == {"photos-logistic", "photos-lda"}
    info = json.loads(penult("store", "info", "--json", cwd=room).stdout)
    assert info["files"] == 30
    assert [space["rows"] for space in info["spaces"]] == [30]
    for verb in (["heads"], ["store", "info"], ["backbones"], ["backbones", "show", "small.onnx"]):
        shown = penult(*verb, cwd=room)
        assert shown.returncode == 0, shown.stderr
        assert len(shown.stdout.splitlines()) > 1


def test_bad_images_end_in_exit_code_3_once(room: Path) -> None:
    (room / "photos" / "red" / "torn.jpg").write_bytes(b"torn")
    done = penult("extract", "photos", "--backbone", "small.onnx", cwd=room)
    assert done.returncode == 3
    assert "1 file could not be used" in done.stderr
    assert "penult store failures" in done.stderr
    assert penult("extract", "photos", "--backbone", "small.onnx", cwd=room).returncode == 0
    listed = json.loads(penult("store", "failures", "--json", cwd=room).stdout)
    assert listed["path"] == str(room / "photos" / "red" / "torn.jpg")
    assert "not an image" in listed["reason"]


def test_every_verb_has_help_and_names_its_options(room: Path) -> None:
    top = _alone("--help", cwd=room)
    for verb in VERBS:
        assert f"  {verb} " in top.stdout
        shown = CliRunner().invoke(app, [verb, "--help"], prog_name="penult", catch_exceptions=False)
        assert shown.exit_code == 0
        assert "Usage: penult" in shown.stdout
        if verb == "extract":
            names = (
                "job",
                "store",
                "provider",
                "workers",
                "limit",
                "max-seconds",
                "shard",
                "engine",
                "address",
                "json",
            )
            places = [shown.stdout.index(f"\n  --{name} ") for name in names]
            assert places == sorted(places), "what is asked for most comes first"


def test_the_version(room: Path) -> None:
    assert _alone("--version", cwd=room).stdout.split()[-1] == __version__
    module = [sys.executable, "-m", "penult", "--version"]
    done = subprocess.run(module, capture_output=True, text=True, cwd=room, check=True)
    assert done.stdout.split()[-1] == __version__


def test_a_folder_that_is_not_there(room: Path) -> None:
    told = _refused("fit", "photso", cwd=room, code=2)
    assert "no folder or file 'photso'" in told
    assert "Expected: a folder of images" in told
    assert "look for a typo" in told
    as_json = penult("fit", "photso", "--json", cwd=room)
    assert json.loads(as_json.stdout)["error"] == "MissingFileError"


def test_an_empty_folder(room: Path) -> None:
    (room / "empty").mkdir()
    assert "no image in 'empty'" in _refused("fit", "empty", cwd=room)
    assert "no image in 'empty'" in _refused("extract", "empty", cwd=room)


def test_one_class_only(room: Path) -> None:
    shutil.rmtree(room / "photos" / "red")
    shutil.rmtree(room / "photos" / "blue")
    told = _refused("fit", "photos", cwd=room)
    assert "one class, 'green'" in told
    assert "Expected: at least two classes" in told


def test_typos(room: Path) -> None:
    assert "did you mean 'extract'" in _refused("extrct", "photos", cwd=room, code=2)
    assert "--sotre" in _refused("fit", "photos", "--sotre", "x", cwd=room, code=2)
    assert "did you mean 'logistic'" in _refused("fit", "photos", "--head", "logistik", cwd=room, code=2)
    backbone = _refused("fit", "photos", "--backbone", "eficientnet-lite0", cwd=room, code=2)
    assert "did you mean 'efficientnet-lite0'" in backbone
    taps = _refused("extract", "photos", "--backbone", "small.onnx", "--taps", "stage", cwd=room, code=2)
    assert "did you mean 'stage1'" in taps
    assert "no model file model.onnx" in _refused("predict", "model.onnx", "photos", cwd=room, code=2)


def test_a_store_that_is_none(room: Path) -> None:
    (room / "full").mkdir()
    (room / "full" / "letter.txt").write_text("hello")
    told = _refused("extract", "photos", "--backbone", "small.onnx", "--store", "full", cwd=room)
    assert "full" in told
    assert "What to do:" in told
    assert "small.onnx" in _refused("extract", "photos", "--store", "small.onnx", "--backbone", "small.onnx", cwd=room)
    assert "nowhere" in _refused("store", "info", "--store", "nowhere", cwd=room, code=2)


def test_a_store_of_another_version(room: Path) -> None:
    assert penult("extract", "photos", "--backbone", "small.onnx", cwd=room).returncode == 0
    about = room / "penult-store" / "store.json"
    content = json.loads(about.read_text())
    content["version"]["major"] = 99
    about.write_text(json.dumps(content))
    told = _refused("extract", "photos", "--backbone", "small.onnx", cwd=room)
    assert "99" in told
    assert "Expected:" in told
    about.write_text("{")
    assert "store.json" in _refused("extract", "photos", "--backbone", "small.onnx", cwd=room)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="everything is writable to root")
def test_a_store_that_cannot_be_read_or_written(room: Path) -> None:
    (room / "locked").mkdir(mode=0o500)
    assert "locked" in _refused("extract", "photos", "--backbone", "small.onnx", "--store", "locked/store", cwd=room)


def test_a_head_without_a_dataset(room: Path) -> None:
    assert penult("extract", "photos", "--backbone", "small.onnx", cwd=room).returncode == 0
    assert "penult fit" in _refused("train", cwd=room)
    assert "photos" in _refused("train", "photos", cwd=room, code=2)


def test_an_asked_gpu_that_is_not_there(room: Path) -> None:
    from penult.pipeline.runtime.providers import cuda_obstacle

    if not cuda_obstacle():
        pytest.skip("this machine has a GPU")
    told = _refused("extract", "photos", "--backbone", "small.onnx", "--provider", "cuda", cwd=room)
    assert "CUDA cannot be used" in told


def test_an_image_that_is_no_backbone(room: Path) -> None:
    told = _refused("extract", "photos", "--backbone", "photos/red/0.png", cwd=room)
    assert "photos/red/0.png" in told
