"""The verbs `penult export` and `penult backbones`."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from penult.errors import BackboneError, ImageError, InputError, MissingFileError, UnknownNameError
from penult.pipeline.cli.app import app


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """An ONNX file with two convolutions, a global pool and three classes."""
    generator = np.random.default_rng(7)
    shapes = {"first": (6, 3, 3, 3), "second": (9, 6, 3, 3), "last": (9, 3)}
    weights = [numpy_helper.from_array(generator.normal(size=s).astype("f4") / 9, name) for name, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["one"], strides=[2, 2]),
        helper.make_node("Relu", ["one"], ["early"]),
        helper.make_node("Conv", ["early", "second"], ["two"], strides=[2, 2]),
        helper.make_node("Relu", ["two"], ["late"]),
        helper.make_node("GlobalAveragePool", ["late"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "last"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 24, 24])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])
    model = helper.make_model(
        helper.make_graph(nodes, "mine", [image], [scores], weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 9
    path = tmp_path / "mine.onnx"
    onnx.save(model, path)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_an_exported_file_lists_its_taps(classifier: Path, tmp_path: Path) -> None:
    out = tmp_path / "backbone.onnx"
    done = run("export", f"onnx:{classifier}", "-o", out, "--family", "torch", "--taps", "early:max,end=late:flatten")
    assert done.exit_code == 0, done.output
    assert "proven on 6 images through ONNX Runtime" in done.output
    steps = [line.partition(" ")[0] for line in done.stderr.splitlines()]
    assert steps == ["reading", "finding", "proving", "proving"]
    assert "7 nodes" in done.stderr
    assert "6 images: running ONNX Runtime" in done.stderr
    shown = run("backbones", "show", out).output
    words = [line.split() for line in shown.splitlines()]
    assert ["early", "6", "max"] in [line[:3] for line in words]
    assert ["end", "225", "flatten"] in [line[:3] for line in words]
    assert "RGB, less 123.675, 116.28, 103.53, divided by 58.395, 57.12, 57.375" in shown
    data = json.loads(run("backbones", "show", out, "--json").output)
    assert data["taps"] == {"early": 6, "end": 225, "penultimate": 9}
    flops = {tap["name"]: tap["flops"] for tap in data["card"]["taps"]}
    # The first convolution: 11 x 11 places, 6 filters of 27 numbers, a multiply-add as two.
    assert 2 * 121 * 6 * 27 <= flops["early"] < flops["end"] <= flops["penultimate"]


def test_json_contains_the_fingerprint_and_the_proof(classifier: Path, tmp_path: Path) -> None:
    words = ("export", f"onnx:{classifier}", "--family", "tf", "--json", "-o")
    first, again = (json.loads(run(*words, tmp_path / f"{name}.onnx").stdout) for name in ("a", "b"))
    assert first["fingerprint"] == again["fingerprint"]
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert first["proof"]["outputs"]["penultimate"]["relative_error"] < 1e-5
    other = json.loads(run(*words, tmp_path / "c.onnx", "--size", "32").stdout)
    assert other["fingerprint"] != first["fingerprint"]


def test_half_precision_is_on_the_card(classifier: Path, tmp_path: Path) -> None:
    done = run("export", f"onnx:{classifier}", "--family", "tf", "--precision", "fp16", "-o", tmp_path / "half.onnx")
    assert done.exit_code == 0, done.output
    card = json.loads(run("backbones", "show", tmp_path / "half.onnx", "--json").output)["card"]
    assert card["precision"] == "fp16"
    assert all(each["cosine"] > 0.999 for each in card["proof"]["outputs"].values())


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["foo:bar"], UnknownNameError, "one of caffe, keras, onnx, timm, torchvision"),
        (["resnet50"], InputError, "PREFIX:REST"),
        (["onnx:{}/gone.onnx"], MissingFileError, "does not exist"),
        (["onnx:{}/mine.onnx"], InputError, "pass --family"),
        (["onnx:{}/mine.onnx", "--mean", "1,2,3"], InputError, "normalisation is incomplete"),
        (["onnx:{}/mine.onnx", "--family", "tf", "--taps", "lat"], UnknownNameError, "did you mean 'late'"),
        (["onnx:{}/mine.onnx", "--family", "tf", "--taps", "late:sum"], UnknownNameError, "unknown pooling 'sum'"),
        (["onnx:{}/mine.onnx", "--mean", "nan,1,1", "--std", "1,1,1"], BackboneError, "finite numbers"),
        (["onnx:{}/mine.onnx", "--family", "tf", "-o", "{}/gone/out.onnx"], MissingFileError, "no folder"),
    ],
)
def test_errors_suggest_what_to_do(
    words: list[str], error: type[Exception], message: str, classifier: Path, tmp_path: Path
) -> None:
    done = run("export", *(word.format(tmp_path) for word in words))
    assert isinstance(done.exception, error)
    assert message in str(done.exception)


def test_only_a_backbone_is_overwritten(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default output may have the name of the source."""
    monkeypatch.chdir(classifier.parent)
    before = classifier.read_bytes()
    words = ("export", "onnx:mine.onnx", "--family", "tf", "--taps", "penultimate")
    refused = run(*words, "-o", "mine.onnx")
    assert isinstance(refused.exception, InputError)
    assert "mine.onnx is there, and is no backbone" in str(refused.exception)
    for _ in range(2):  # the second time over the first
        assert "--backbone mine-backbone.onnx" in run(*words).stdout
    assert classifier.read_bytes() == before
    monkeypatch.setattr("penult.pipeline.cli.export.os.access", lambda *_: False)
    assert "Nothing can be written into" in str(run(*words).exception)


def test_accents_are_removed_from_names(classifier: Path, tmp_path: Path) -> None:
    odd = classifier.rename(tmp_path / "mein nétz (ü).onnx")
    data = json.loads(run("export", f"onnx:{odd}", "--family", "tf", "--json", "-o", tmp_path / "out.onnx").stdout)
    assert data["backbone"] == "mein-netz-u"


def test_an_input_too_small_for_the_network_raises_an_error(classifier: Path, tmp_path: Path) -> None:
    """ONNX Runtime divides by the sides of a map, and would crash the process."""
    words = ("export", f"onnx:{classifier}", "--family", "tf", "-o", tmp_path / "out.onnx", "--size")
    model = onnx.load(classifier)
    model.graph.node.insert(2, helper.make_node("MaxPool", ["early"], ["small"], kernel_shape=[3, 3], strides=[3, 3]))
    model.graph.node[3].input[0] = "small"
    onnx.save(model, classifier)
    refused = run(*words, 8)
    assert isinstance(refused.exception, BackboneError)
    assert "which is empty" in str(refused.exception)
    assert run(*words, 48).exit_code == 0


def test_further_photos_prove_it_too_and_what_is_no_image_is_named(classifier: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(40):  # more than go through the network at once
        pixels = np.random.default_rng(index).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{index}.png")
    words = ("export", f"onnx:{classifier}", "--family", "tf", "--photos", photos, "-o", tmp_path / "out.onnx")
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert "proven on 46 images" in done.stdout
    (photos / "broken.png").write_bytes(b"no image")
    refused = run(*words)
    assert isinstance(refused.exception, ImageError)
    assert "broken.png cannot prove anything" in str(refused.exception)


def test_the_sources_are_listed_with_the_built_in_ones() -> None:
    assert "efficientnet-lite0" in run("backbones").output
    assert "torchvision:…" in run("backbones").output
