"""The output, exit codes and error messages of the command line."""

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
    """Runs penult in its own process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [PENULT, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, env=environment, check=False
    )


def _refused(*arguments: object, cwd: Path, code: int = 1) -> str:
    """Runs a command that must fail, and returns its error message."""
    done = penult(*arguments, cwd=cwd)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout or done.stdout.startswith('{"error"')
    return " ".join(done.stderr.split())


@pytest.fixture
def work(tmp_path: Path, collection: Path, small_backbone: Backbone) -> Path:
    """A folder with images in ``photos`` and a small backbone in ``small.onnx``."""
    small_backbone.save(tmp_path / "small.onnx")
    return tmp_path


def test_a_closed_pipe_is_no_failure(work: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([PENULT, "backbones"], cwd=work, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_operating_system_error_has_the_form_of_all_errors(work: Path) -> None:
    (work / "file").touch()
    message = _refused("demo", "file/demo", cwd=work)
    assert "'file/demo" in message
    assert "Not a directory. Expected: " in message
    assert "What to do: " in message


def test_a_new_user_fits_and_predicts(work: Path) -> None:
    fitted = _alone("fit", "photos", "--backbone", "small.onnx", cwd=work)
    assert fitted.returncode == 0, fitted.stderr
    assert "30 images found: 30 new, 0 reused, 0 failed" in fitted.stdout
    assert "100.0% of" in fitted.stdout
    assert "Extracting: 30 images" in fitted.stderr, "progress is plain lines where nobody watches"

    again = json.loads(penult("fit", "photos", "--backbone", "small.onnx", "--json", cwd=work).stdout)
    assert again["receipt"]["new"] == 0
    assert (work / again["report"]).is_file()

    predicted = penult("predict", again["model"], "photos/red", "--json", cwd=work)
    lines = [json.loads(line) for line in predicted.stdout.splitlines()]
    assert len(lines) == 10
    assert {line["label"] for line in lines} == {"red"}
    assert set(lines[0]) == {"path", "label", "probabilities"}

    receipt = json.loads(penult("extract", "photos", "--backbone", "small.onnx", "--json", cwd=work).stdout)
    names = {"found", "new", "reused", "failed", "rows", "seconds", "images_per_second", "spaces"}
    assert names <= set(receipt)
    assert receipt["reused"] == 30

    trained = json.loads(penult("train", "photos", "--head", "lda", "--json", cwd=work).stdout)
    assert trained["head"] == "photos-lda"
    assert trained["accuracy"] == 1.0
    assert Path(trained["model"]).name == "model.onnx"

    bundled = penult("bundle", "photos-lda", "-o", "lda.onnx", cwd=work)
    assert bundled.returncode == 0, bundled.stderr
    assert (work / "lda.onnx").is_file()

    heads = json.loads(penult("heads", "--json", cwd=work).stdout)
    assert set(heads) == {"photos-logistic", "photos-lda"}
    info = json.loads(penult("store", "info", "--json", cwd=work).stdout)
    assert info["files"] == 30
    assert [space["rows"] for space in info["spaces"]] == [30]
    for verb in (["heads"], ["store", "info"], ["backbones"], ["backbones", "show", "small.onnx"]):
        shown = penult(*verb, cwd=work)
        assert shown.returncode == 0, shown.stderr
        assert len(shown.stdout.splitlines()) > 1


def test_new_bad_images_exit_with_3_only_once(work: Path) -> None:
    (work / "photos" / "red" / "torn.jpg").write_bytes(b"torn")
    done = penult("extract", "photos", "--backbone", "small.onnx", cwd=work)
    assert done.returncode == 3
    assert "1 file could not be used" in done.stderr
    assert "penult store failures" in done.stderr
    assert penult("extract", "photos", "--backbone", "small.onnx", cwd=work).returncode == 0
    listed = json.loads(penult("store", "failures", "--json", cwd=work).stdout)
    assert listed["path"] == str(work / "photos" / "red" / "torn.jpg")
    assert "not a recognised image" in listed["reason"]


def test_every_verb_has_help_and_names_its_options(work: Path) -> None:
    top = _alone("--help", cwd=work)
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


def test_the_version(work: Path) -> None:
    assert _alone("--version", cwd=work).stdout.split()[-1] == __version__
    module = [sys.executable, "-m", "penult", "--version"]
    done = subprocess.run(module, capture_output=True, text=True, cwd=work, check=True)
    assert done.stdout.split()[-1] == __version__


def test_a_missing_folder(work: Path) -> None:
    message = _refused("fit", "photso", cwd=work, code=2)
    assert "no folder or file 'photso'" in message
    assert "Expected: a folder of images" in message
    assert "look for a typo" in message
    as_json = penult("fit", "photso", "--json", cwd=work)
    assert json.loads(as_json.stdout)["error"] == "MissingFileError"


def test_an_empty_folder(work: Path) -> None:
    (work / "empty").mkdir()
    assert "no image in 'empty'" in _refused("fit", "empty", cwd=work)
    assert "no image in 'empty'" in _refused("extract", "empty", cwd=work)


def test_one_class_only(work: Path) -> None:
    shutil.rmtree(work / "photos" / "red")
    shutil.rmtree(work / "photos" / "blue")
    message = _refused("fit", "photos", cwd=work)
    assert "the same class, 'green'" in message
    assert "Expected: at least two classes" in message


def test_typos(work: Path) -> None:
    assert "did you mean 'extract'" in _refused("extrct", "photos", cwd=work, code=2)
    assert "--sotre" in _refused("fit", "photos", "--sotre", "x", cwd=work, code=2)
    assert "did you mean 'logistic'" in _refused("fit", "photos", "--head", "logistik", cwd=work, code=2)
    backbone = _refused("fit", "photos", "--backbone", "eficientnet-lite0", cwd=work, code=2)
    assert "did you mean 'efficientnet-lite0'" in backbone
    taps = _refused("extract", "photos", "--backbone", "small.onnx", "--taps", "stage", cwd=work, code=2)
    assert "did you mean 'stage1'" in taps
    assert "no model file model.onnx" in _refused("predict", "model.onnx", "photos", cwd=work, code=2)


def test_a_folder_that_is_not_a_store(work: Path) -> None:
    (work / "full").mkdir()
    (work / "full" / "letter.txt").write_text("hello")
    message = _refused("extract", "photos", "--backbone", "small.onnx", "--store", "full", cwd=work)
    assert "full" in message
    assert "What to do:" in message
    assert "small.onnx" in _refused("extract", "photos", "--store", "small.onnx", "--backbone", "small.onnx", cwd=work)
    assert "nowhere" in _refused("store", "info", "--store", "nowhere", cwd=work, code=2)


def test_a_store_of_another_version(work: Path) -> None:
    assert penult("extract", "photos", "--backbone", "small.onnx", cwd=work).returncode == 0
    about = work / "penult-store" / "store.json"
    content = json.loads(about.read_text())
    content["version"]["major"] = 99
    about.write_text(json.dumps(content))
    message = _refused("extract", "photos", "--backbone", "small.onnx", cwd=work)
    assert "99" in message
    assert "Expected:" in message
    about.write_text("{")
    assert "store.json" in _refused("extract", "photos", "--backbone", "small.onnx", cwd=work)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="everything is writable to root")
def test_a_store_that_cannot_be_read_or_written(work: Path) -> None:
    (work / "locked").mkdir(mode=0o500)
    assert "locked" in _refused("extract", "photos", "--backbone", "small.onnx", "--store", "locked/store", cwd=work)


def test_a_head_without_a_dataset(work: Path) -> None:
    assert penult("extract", "photos", "--backbone", "small.onnx", cwd=work).returncode == 0
    assert "penult fit" in _refused("train", cwd=work)
    assert "photos" in _refused("train", "photos", cwd=work, code=2)


def test_a_requested_gpu_that_is_missing(work: Path) -> None:
    from penult.pipeline.runtime.providers import cuda_obstacle

    if not cuda_obstacle():
        pytest.skip("this machine has a GPU")
    message = _refused("extract", "photos", "--backbone", "small.onnx", "--provider", "cuda", cwd=work)
    assert "CUDA cannot be used" in message


def test_an_image_given_as_a_backbone(work: Path) -> None:
    message = _refused("extract", "photos", "--backbone", "photos/red/0.png", cwd=work)
    assert "photos/red/0.png" in message
