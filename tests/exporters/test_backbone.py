"""Backbone files are validated when loaded, and damaged or malicious files end in one clear error."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from penult.errors import BackboneError, MissingFileError, UnknownNameError
from penult.exporters import Backbone, Card
from penult.exporters.reference import reference_batch

Small = Callable[..., tuple[onnx.ModelProto, Card]]


def test_a_saved_backbone_loads_equal(small_backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    small_backbone.save(path)
    loaded = Backbone.load(path)
    assert (loaded.fingerprint, loaded.card) == (small_backbone.fingerprint, small_backbone.card)
    assert loaded.name == "small"
    assert loaded.input_size == (8, 8)
    assert loaded.outputs == ("penultimate", "logits")
    assert path.read_bytes() == loaded.to_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small.onnx"]


def test_a_failed_save_leaves_the_old_file(
    small_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        small_backbone.save(path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("small.onnx", b"before")]


def test_a_tap_is_found_by_name(small_backbone: Backbone) -> None:
    assert small_backbone.tap("penultimate").width == 4
    with pytest.raises(UnknownNameError, match="did you mean 'penultimate'"):
        small_backbone.tap("penultimat")
    with pytest.raises(UnknownNameError):
        small_backbone.model(["stage9"])
    for wrong in ([], ["logits", "logits"]):
        with pytest.raises(BackboneError):
            small_backbone.model(wrong)


def test_a_model_keeps_only_what_its_outputs_need(small_backbone: Backbone) -> None:
    cut = small_backbone.model(["penultimate"])
    onnx.checker.check_model(cut, full_check=True)
    assert "MatMul" not in [node.op_type for node in cut.graph.node]
    assert [tensor.name for tensor in cut.graph.initializer] == ["filters"]
    assert {p.key: p.value for p in cut.metadata_props}["penult.view_of"] == small_backbone.fingerprint
    both = small_backbone.model(["logits", "penultimate"])
    assert [output.name for output in both.graph.output] == ["logits", "penultimate"]
    assert small_backbone.outputs == ("penultimate", "logits")


def test_pruning_does_not_change_features(small_backbone: Backbone) -> None:
    import onnxruntime

    pixels = small_backbone.reference_batch()
    rows = []
    for outputs in (["penultimate"], ["logits", "penultimate"]):
        session = onnxruntime.InferenceSession(small_backbone.serialized(outputs), providers=["CPUExecutionProvider"])
        rows.append(session.run(["penultimate"], {"pixels": pixels})[0])
    np.testing.assert_array_equal(*rows)


class TestReference:
    def test_the_reference_batch_never_changes(self) -> None:
        batch = reference_batch(6, 5)
        assert batch.shape == (2, 6, 5, 3)
        assert batch.dtype == np.uint8
        assert batch[0, 1, :3].tolist() == [[71, 29, 35], [50, 62, 75], [75, 94, 113]]
        assert reference_batch(224, 224).std() > 40

    def test_equal_vectors_pass_and_different_vectors_fail(
        self, small_backbone: Backbone, run_all: Callable[..., dict[str, np.ndarray]]
    ) -> None:
        given = run_all(small_backbone, small_backbone.reference_batch())
        seen = small_backbone.check_reference(given)
        assert set(seen) == {"penultimate", "logits"}
        assert max(error for _, error in seen.values()) < 1e-6
        slightly = {"penultimate": given["penultimate"] * np.float32(1.01)}
        with pytest.raises(BackboneError, match="'penultimate' of the reference batch"):
            small_backbone.check_reference(slightly)
        small_backbone.check_reference(slightly, tolerance="tf32")

    @pytest.mark.parametrize("damage", ["swapped", "nan", "short", "rows", "unknown", "zero"])
    def test_wrong_vectors_raise_an_error(
        self, damage: str, small_backbone: Backbone, run_all: Callable[..., dict[str, np.ndarray]]
    ) -> None:
        row = run_all(small_backbone, small_backbone.reference_batch())["penultimate"]
        changed = {
            "swapped": {"penultimate": row[::-1]},
            "nan": {"penultimate": row * np.nan},
            "short": {"penultimate": row[:, :3]},
            "rows": {"penultimate": row[:1]},
            "unknown": {"stage1": row},
            "zero": {"penultimate": row * 0},
        }[damage]
        with pytest.raises(BackboneError):
            small_backbone.check_reference(changed, tolerance="fp16")


def props(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def written(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "hostile.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_file_that_is_not_a_backbone_raises_an_error(small: tuple[onnx.ModelProto, Card], tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        Backbone.load(tmp_path / "none.onnx")
    with pytest.raises(BackboneError):
        Backbone.load(tmp_path)
    path = written(small[0], tmp_path)
    with pytest.raises(BackboneError, match=r"is not a backbone.*penult export onnx:.*hostile\.onnx"):
        Backbone.load(path)
    path.write_bytes(b"text")
    with pytest.raises(BackboneError, match="not an ONNX file"):
        Backbone.load(path)


def test_a_file_truncated_anywhere_raises_an_error(small_backbone: Backbone, tmp_path: Path) -> None:
    data = small_backbone.to_bytes()
    for end in range(0, len(data), 7):
        with pytest.raises(BackboneError):
            Backbone.parse(data[:end])


def test_a_flipped_bit_raises_an_error_or_changes_no_feature(small_backbone: Backbone) -> None:
    data = small_backbone.to_bytes()
    refused = 0
    for place in range(0, len(data), 5):
        changed = bytearray(data)
        changed[place] ^= 0x10
        try:
            again = Backbone.parse(bytes(changed))
        except BackboneError:
            refused += 1
        else:
            assert again.fingerprint == small_backbone.fingerprint
    assert refused > 50


def test_changed_weights_and_cards_are_detected(small_backbone: Backbone, tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(small_backbone.to_bytes())
    array = numpy_helper.to_array(model.graph.initializer[0]).copy()
    array[0, 0, 0, 0] += 1e-3
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, model.graph.initializer[0].name))
    with pytest.raises(BackboneError, match="was changed after its export"):
        Backbone.load(written(model, tmp_path))
    model = onnx.ModelProto.FromString(small_backbone.to_bytes())
    card = json.loads(props(model)["penult.card"])
    card["preprocessing"]["interpolation"] = "nearest"
    onnx.helper.set_model_props(model, props(model) | {"penult.card": json.dumps(card)})
    with pytest.raises(BackboneError, match="was changed after its export"):
        Backbone.load(written(model, tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 3}', "[" * 100_000, "null"])
def test_a_broken_card_raises_a_backbone_error(text: str, small_backbone: Backbone, tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(small_backbone.to_bytes())
    onnx.helper.set_model_props(model, props(model) | {"penult.card": text})
    with pytest.raises(BackboneError):
        Backbone.load(written(model, tmp_path))


def test_a_newer_version_raises_an_error(small_backbone: Backbone, tmp_path: Path) -> None:
    model = onnx.ModelProto.FromString(small_backbone.to_bytes())
    onnx.helper.set_model_props(model, props(model) | {"penult.version": "2"})
    with pytest.raises(BackboneError, match="version 2"):
        Backbone.load(written(model, tmp_path))


def external(graph: onnx.GraphProto) -> None:
    graph.initializer[0].data_location = TensorProto.EXTERNAL
    onnx.external_data_helper.set_external_data(graph.initializer[0], "/etc/passwd")


def huge_weights(graph: onnx.GraphProto) -> None:
    graph.initializer[0].dims[0] = 1 << 50


def huge_value(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Expand", ["penultimate", "sides"], ["vast"]))
    graph.initializer.append(numpy_helper.from_array(np.array([1 << 20, 1 << 15, 4]), "sides"))
    graph.output.append(helper.make_tensor_value_info("vast", TensorProto.FLOAT, None))


def unknown_operator(graph: onnx.GraphProto) -> None:
    graph.node[2].op_type = "Konv"


def other_domain(graph: onnx.GraphProto) -> None:
    graph.node[2].domain = "com.evil"


def random_operator(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("RandomNormal", [], ["noise"], shape=[2]))


def float_input(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def loop(graph: onnx.GraphProto) -> None:
    graph.node[0].input[0] = "rectified"


def named_twice(graph: onnx.GraphProto) -> None:
    graph.node[3].output[0] = "convolved"


INVALID: tuple[Callable[[onnx.GraphProto], None], ...] = (
    external, huge_weights, huge_value, unknown_operator, other_domain, random_operator, float_input, loop, named_twice,
)  # fmt: skip


@pytest.mark.parametrize("damage", INVALID)
def test_an_invalid_graph_raises_an_error(
    damage: Callable[[onnx.GraphProto], None], small: tuple[onnx.ModelProto, Card]
) -> None:
    model, card = small
    damage(model.graph)
    with pytest.raises(BackboneError):
        Backbone(model, card)


@pytest.mark.parametrize("wrong", ["width", "classes", "one tap more", "no penultimate"])
def test_a_card_of_another_graph_raises_an_error(wrong: str, small: tuple[onnx.ModelProto, Card]) -> None:
    model, card = small
    tap = card.taps[0]
    changes: dict[str, dict[str, Any]] = {
        "width": {"taps": (replace(tap, width=5),)},
        "classes": {"classes": ("a",)},
        "one tap more": {"taps": (tap, replace(tap, name="stage1"))},
        "no penultimate": {"taps": (replace(tap, name="stage1"),)},
    }
    with pytest.raises(BackboneError):
        Backbone(model, replace(card, **changes[wrong]))


def test_the_given_model_is_not_changed(small: tuple[onnx.ModelProto, Card]) -> None:
    before = small[0].SerializeToString()
    Backbone(*small)
    assert small[0].SerializeToString() == before
