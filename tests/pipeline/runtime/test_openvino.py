"""OpenVINO: float32 features equal those of ONNX Runtime, and bfloat16 features have their own space."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from penult.errors import BackboneError, ProviderError
from penult.exporters import Backbone, in_bfloat16, load_backbone
from penult.pipeline.cli.app import app
from penult.pipeline.extraction.extract import ExtractOptions, extract
from penult.pipeline.fit import fit
from penult.pipeline.images.decode import decode
from penult.pipeline.models.model import Model
from penult.pipeline.runtime import openvino_session, providers
from penult.pipeline.runtime.openvino_session import OpenVinoSession, bfloat16_obstacle
from penult.pipeline.runtime.providers import choose_provider
from penult.pipeline.runtime.session import Session
from penult.store import Store, open_store

pytest.importorskip("openvino")

OPENVINO = ExtractOptions(provider="openvino", dtype="float32")


def _apart(rows: np.ndarray, wanted: np.ndarray) -> float:
    return float((np.linalg.norm(rows - wanted, axis=1) / np.linalg.norm(wanted, axis=1)).max())


def _pixels(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def imitated(small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """A bfloat16 backbone, on a CPU that has bfloat16 or emulates it."""
    made = in_bfloat16(small_backbone)
    try:
        OpenVinoSession(made.serialized(["penultimate"]), "bf16").run(["penultimate"], {"pixels": _pixels(1)})
    except ProviderError:
        pytest.skip("this CPU cannot even imitate bfloat16")
    monkeypatch.setattr(providers, "bfloat16_obstacle", lambda: "")
    return made


def test_openvino_features_equal_those_of_onnx_runtime(shared_data: Path) -> None:
    backbone = load_backbone("efficientnet-lite0")
    photos = sorted((shared_data / "images/hymenoptera").rglob("*.jpg"))[::60]
    pixels = np.stack([decode(path.read_bytes(), backbone.card.preprocessing) for path in photos])
    rows = [
        Session(backbone, ["penultimate"], provider=each).run(pixels)["penultimate"] for each in ("openvino", "cpu")
    ]
    assert 0 < _apart(*rows) < 1e-5


def test_a_row_is_independent_of_its_batch_and_of_other_threads(small_backbone: Backbone) -> None:
    pixels = _pixels(70)
    alone = Session(small_backbone, ["penultimate", "stage1"], provider="openvino").run(pixels)
    for size in (3, 32):
        session = Session(small_backbone, ["stage1", "penultimate"], provider="openvino", batch_size=size)
        with ThreadPoolExecutor(6) as pool:
            given = list(pool.map(session.run, [pixels[start : start + 10] for start in range(0, 70, 10)]))
        for tap in ("penultimate", "stage1"):
            np.testing.assert_array_equal(np.concatenate([each[tap] for each in given]), alone[tap])


def test_float32_rows_share_the_space_of_onnx_runtime(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    store = open_store(tmp_path / "store")
    receipt = extract(collection, store, backbone=small_backbone, options=OPENVINO)
    assert (receipt.new, receipt.provider) == (30, "openvino")
    again = extract(collection, store, backbone=small_backbone, options=ExtractOptions(dtype="float32", provider="cpu"))
    assert (again.new, again.reused) == (0, 30)


def test_a_missing_openvino_raises_an_error(monkeypatch: pytest.MonkeyPatch, small_backbone: Backbone) -> None:
    monkeypatch.setattr(openvino_session, "find_spec", lambda name: None)
    with pytest.raises(ProviderError, match=r"OpenVINO cannot be used.*pip install 'penult\[openvino\]'"):
        Session(small_backbone, ["penultimate"], provider="openvino")
    with pytest.raises(ProviderError, match="computes in bfloat16, which is not possible here: the package openvino"):
        choose_provider("auto", "bf16")


def test_an_unsupported_graph_raises_an_error() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("a", "b")]
    node = helper.make_node("Unheard", ["a"], ["b"], domain="of.nobody")
    graph = helper.make_graph([node], "odd", values[:1], values[1:])
    with pytest.raises(ProviderError, match="OpenVINO cannot run the graph"):
        OpenVinoSession(helper.make_model(graph).SerializeToString()).run(["b"], {"a": np.ones((1, 1), np.float32)})


def test_a_bfloat16_backbone_has_its_own_fingerprint(small_backbone: Backbone, tmp_path: Path) -> None:
    made = in_bfloat16(small_backbone)
    made.save(tmp_path / "made.onnx")
    again = Backbone.load(tmp_path / "made.onnx")
    assert (again.card.precision, again.name) == ("bf16", f"{small_backbone.name}-bf16")
    assert again.fingerprint == made.fingerprint != small_backbone.fingerprint
    with pytest.raises(BackboneError, match="is bf16"):
        in_bfloat16(again)
    changed = onnx.load(tmp_path / "made.onnx")
    (card,) = [entry for entry in changed.metadata_props if entry.key == "penult.card"]
    card.value = card.value.replace('"bf16"', '"fp32"')
    onnx.save(changed, tmp_path / "changed.onnx")
    with pytest.raises(BackboneError, match="was changed after its export"):
        Backbone.load(tmp_path / "changed.onnx")


def test_bfloat16_runs_only_on_a_cpu_that_has_it(
    small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch, collection: Path, tmp_path: Path
) -> None:
    made = in_bfloat16(small_backbone)
    for provider in ("cpu", "cuda", "tensorrt"):
        with pytest.raises(ProviderError, match=f"{provider} does not compute in it"):
            Session(made, ["penultimate"], provider=provider)
    monkeypatch.setattr(providers, "bfloat16_obstacle", lambda: "this CPU has none")
    for provider in ("auto", "openvino"):
        with pytest.raises(ProviderError, match=r"this CPU has none.*use the backbone that it was made from"):
            extract(collection, tmp_path / "store", backbone=made, options=ExtractOptions(provider=provider))


def test_the_capabilities_of_the_cpu_decide_about_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    for told, is_able in ((["FP32", "INT8"], False), (["FP32", "BF16"], True)):
        monkeypatch.setattr(openvino.Core, "get_property", lambda self, *names, told=told: told)
        assert bool(bfloat16_obstacle()) is not is_able


def test_another_precision_than_requested_raises_an_error(
    small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    kept = openvino.Core.compile_model

    def otherwise(self: Any, model: Any, device: str, asked: dict[str, Any]) -> Any:
        return kept(self, model, device, {**asked, "INFERENCE_PRECISION_HINT": "f32"})

    monkeypatch.setattr(openvino.Core, "compile_model", otherwise)
    with pytest.raises(ProviderError, match="computes in f32 instead of bf16"):
        OpenVinoSession(small_backbone.serialized(["penultimate"]), "bf16").run(None, {"pixels": _pixels(1)})


def test_bfloat16_rows_are_close_and_have_their_own_space(
    imitated: Backbone, small_backbone: Backbone, collection: Path, tmp_path: Path
) -> None:
    store = open_store(tmp_path / "store")
    for backbone in (small_backbone, imitated):
        extract(collection, store, backbone=backbone, options=ExtractOptions(dtype="float32"))
    spaces = {space.spec.backbone: space for space in store.spaces()}
    keys = spaces[small_backbone.name].keys()
    wanted, rows = (spaces[each.name].gather(keys) for each in (small_backbone, imitated))
    assert 1e-4 < _apart(rows, wanted) < 0.1


def test_a_model_file_of_a_bfloat16_head_computes_in_float32_and_says_so(
    imitated: Backbone, collection: Path, tmp_path: Path
) -> None:
    fitted = fit(collection, tmp_path / "store", backbone=imitated, output=tmp_path / "out")
    told = "computed in bfloat16; a model file computes them in float32"
    assert any(told in note for note in fitted.trained.notes)
    model = Model.load(tmp_path / "out/model.onnx", provider="openvino")
    assert model.provenance["backbone"]["precision"] == "bf16"
    assert any(told in note for note in model.provenance["head"]["notes"])
    with pytest.raises(ProviderError, match="whose probabilities would differ"):
        model.predict(_pixels(1))


def test_the_verb_makes_one(small_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small_backbone.save(tmp_path / "small.onnx")
    done = CliRunner().invoke(app, ["backbones", "bfloat16", "small.onnx"])
    assert done.exit_code == 0, done.output
    name = f"{small_backbone.name}-bf16.onnx"
    assert f"penult extract IMAGES --backbone {name}" in done.stdout
    shown = CliRunner().invoke(app, ["backbones", "show", name, "--json"])
    assert json.loads(shown.stdout)["card"]["precision"] == "bf16"


def test_a_stored_head_predicts_with_openvino(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    from penult.pipeline.models.predict import predict

    store: Store = open_store(tmp_path / "store")
    fit(collection, store, backbone=small_backbone, output=tmp_path / "out")
    new = tmp_path / "new.png"
    new.write_bytes((collection / "red" / "1.png").read_bytes() + b"\0")  # other bytes, the same pixels
    said = [next(predict("photos-logistic", new, store=store, provider=each)) for each in ("cpu", "openvino")]
    assert said[0].label == said[1].label == "red"
    assert said[0].confidence == pytest.approx(said[1].confidence, abs=1e-3)
