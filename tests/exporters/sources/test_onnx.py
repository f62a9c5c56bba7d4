"""Third-party ONNX files become backbones that classify photos, and malicious files raise an error."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from penult.errors import (
    BackboneError,
    ExportMismatchError,
    InputError,
    MissingFileError,
    PenultError,
    UnknownNameError,
)
from penult.exporters import Backbone, Card
from penult.exporters.card import Tap
from penult.exporters.exporting import export, export_network
from penult.exporters.requests import ExportRequest, Hints, parse_taps, read_sidecar
from penult.exporters.sources.onnx import read_onnx
from penult.pipeline.cli.backbones import proof_line
from penult.pipeline.images.decode import decode

Photos = list[tuple[Path, int]]
Hits = Callable[..., tuple[int, int]]
TF = Hints(family="tf")


@pytest.fixture(scope="module")
def weights(shared_data: Path) -> Path:
    return shared_data / "weights"


class TestRealFiles:
    def test_squeezenet_of_half_precision(self, weights: Path, labelled_photos: Photos, hits: Hits) -> None:
        backbone = export(f"onnx:{weights / 'squeezenet1_1_fp16.onnx'}", decode=decode)
        assert [(t.name, t.width) for t in backbone.card.taps] == [
            ("stage1", 64), ("stage2", 128), ("stage3", 256), ("penultimate", 512),
        ]  # fmt: skip
        assert backbone.card.normalisation.channels == "bgr"
        assert "Caffe2" in backbone.card.notes[0]
        assert hits(backbone, labelled_photos) == (60, 83)

    def test_mobilenet_v2(self, weights: Path, labelled_photos: Photos, hits: Hits) -> None:
        backbone = export(f"onnx:{weights / 'mobilenet_v2.onnx'}", ExportRequest(hints=TF), decode=decode)
        assert [(t.name, t.width, t.reduction) for t in backbone.card.taps] == [
            ("stage1", 16, 2), ("stage2", 24, 4), ("stage3", 32, 8), ("stage4", 96, 16), ("stage5", 320, 32),
            ("penultimate", 1280, None),
        ]  # fmt: skip
        assert backbone.card.classes is not None
        assert backbone.card.classes[:2] == ("background", "tench")
        assert hits(backbone, labelled_photos, shift=1) == (90, 97)
        assert max(e["relative_error"] for e in backbone.card.proof["outputs"].values()) < 1e-5

    def test_mobilenet_v2_in_half_precision(self, weights: Path, labelled_photos: Photos, hits: Hits) -> None:
        request = ExportRequest(precision="fp16", hints=TF, taps=parse_taps("penultimate"))
        backbone = export(f"onnx:{weights / 'mobilenet_v2.onnx'}", request, decode=decode)
        assert backbone.card.precision == "fp16"
        assert len(backbone.to_bytes()) < 8_000_000
        first, _ = hits(backbone, labelled_photos[::8], shift=1)
        assert first >= 11
        assert backbone.card.proof["outputs"]["penultimate"]["cosine"] > 0.9999

    def test_an_unknown_file_needs_its_preprocessing(self, weights: Path) -> None:
        with pytest.raises(
            InputError, match=r"pass --family, or --mean and --std .* write them into mobilenet_v2\.json"
        ):
            export(f"onnx:{weights / 'mobilenet_v2.onnx'}", decode=decode)

    def test_taps_can_have_any_value_and_pooling(self, weights: Path) -> None:
        taps = parse_taps("stage4:max,wide=t8:gem,flat=t160:flatten,t120,last=stage5:flatten")
        request = ExportRequest(taps=taps, hints=TF)
        backbone = export(f"onnx:{weights / 'mobilenet_v2.onnx'}", request, decode=decode)
        assert [(t.name, t.tensor, t.width, t.pooling) for t in backbone.card.taps] == [
            ("stage4", "t120", 96, "max"),
            ("wide", "t8", 16, "gem"),
            ("flat", "t160", 1280, "flatten"),
            ("t120", "t120", 96, "avg"),
            ("last", "t156", 320 * 49, "flatten"),
            ("penultimate", "t160", 1280, "none"),
        ]
        assert set(backbone.card.proof["outputs"]) == {
            "stage4",
            "wide",
            "flat",
            "t120",
            "last",
            "penultimate",
            "logits",
        }
        with pytest.raises(UnknownNameError, match="did you mean 'stage5'"):
            export(f"onnx:{weights / 'mobilenet_v2.onnx'}", replace(request, taps=parse_taps("stag5")), decode=decode)

    def test_another_size(self, weights: Path) -> None:
        request = ExportRequest(size=160, hints=TF, taps=parse_taps("penultimate"))
        backbone = export(f"onnx:{weights / 'mobilenet_v2.onnx'}", request, decode=decode)
        assert backbone.input_size == (160, 160)
        assert backbone.card.preprocessing.resize == 183

    def test_a_wrong_normalisation_fails_the_proof(self, weights: Path) -> None:
        """The source and the graph have different normalisations, which the proof must detect."""
        request = ExportRequest(hints=TF)
        network = read_onnx(str(weights / "mobilenet_v2.onnx"), request)
        other = replace(network, normalisation=replace(network.normalisation, mean=(127.5, 127.5, 126.0)))
        with pytest.raises(ExportMismatchError, match=r"The tap '\w+' differs from its source, most on \w+\.(png|jpg)"):
            export_network(other, request, decode=decode)
        turned = replace(network, normalisation=replace(network.normalisation, channels="bgr"))
        with pytest.raises(ExportMismatchError):
            export_network(turned, request, decode=decode)
        softer = replace(network, preprocessing=replace(network.preprocessing, interpolation="bilinear"))
        with pytest.raises(ExportMismatchError):
            export_network(softer, request, decode=decode)

    def test_taps_that_the_source_cannot_compute_are_reported(self, weights: Path) -> None:
        network = read_onnx(str(weights / "mobilenet_v2.onnx"), ExportRequest(hints=TF))
        run = network.run
        assert run is not None

        def less(paths: Sequence[Path], taps: Sequence[Tap]) -> Mapping[str, Any]:
            return run(paths, [tap for tap in taps if tap.name not in ("stage1", "stage4")])

        taps = parse_taps("stage1,stage2,stage4")
        card = export_network(replace(network, run=less), ExportRequest(hints=TF, taps=taps), decode=decode).card
        assert set(card.proof["outputs"]) == {"stage2", "penultimate", "logits"}
        assert proof_line(card).endswith("not compared, for the source does not give it: stage1, stage4")

    def test_two_exports_have_the_same_fingerprint(self, weights: Path, tmp_path: Path) -> None:
        copy = tmp_path / "other name.onnx"
        shutil.copy(weights / "squeezenet1_1_fp16.onnx", copy)
        once = export(f"onnx:{weights / 'squeezenet1_1_fp16.onnx'}", decode=decode)
        again = export(f"onnx:{copy}", decode=decode)
        assert again.name == "other-name"
        assert again.fingerprint == once.fingerprint


def network(
    *, batch: int | str = 1, opset: int = 13, kind: int = TensorProto.FLOAT, padded: bool = True, last: bool = False
) -> onnx.ModelProto:
    """A small classifier of 5: two convolutions, a pool, a Reshape with a fixed batch, a Gemm, a Softmax."""
    generator = np.random.default_rng(3)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    constants: dict[str, npt.NDArray[np.generic]] = {
        "f1": generator.normal(size=(6, 3, 3, 3)).astype(dtype),
        "f2": generator.normal(size=(8, 6, 3, 3)).astype(dtype),
        "b2": generator.normal(size=8).astype(dtype),
        "w": generator.normal(size=(5, 8)).astype(dtype),
        "b": generator.normal(size=5).astype(dtype),
        "to": np.array([1, 8] if batch == 1 else [-1, 8]),
    }
    pads = [1, 1, 1, 1] if padded else [0, 0, 0, 0]
    nodes = [helper.make_node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2])] if last else []
    nodes += [
        helper.make_node("Conv", ["x" if last else "image", "f1"], ["c1"], strides=[2, 2], pads=pads),
        helper.make_node("Relu", ["c1"], ["stage1"]),
        helper.make_node("Conv", ["stage1", "f2", "b2"], ["c2"], strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["pooled"]),
        helper.make_node("Dropout", ["pooled"], ["dropped"]),
        helper.make_node("Reshape", ["dropped", "to"], ["vector"]),
        helper.make_node("Gemm", ["vector", "w", "b"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["prob"], axis=1),
    ]
    sides = [batch, 32, 32, 3] if last else [batch, 3, 32, 32]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", kind, sides)],
        [helper.make_tensor_value_info("prob", kind, [batch, 5])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def exported(model: onnx.ModelProto, folder: Path, request: ExportRequest | None = None) -> Backbone:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return export(f"onnx:{path}", request or ExportRequest(hints=Hints(family="torch")), decode=decode)


class TestAnyForm:
    @pytest.mark.parametrize("padded", [True, False])
    @pytest.mark.parametrize("family", ["torch", "caffe", "tf", "unit", "raw"])
    def test_every_normalisation_passes_the_proof(self, family: str, padded: bool, tmp_path: Path) -> None:
        hints = Hints(family=family)  # type: ignore[arg-type]  # the parameters are families
        backbone = exported(network(padded=padded), tmp_path, ExportRequest(hints=hints))
        kinds = [node.op_type for node in backbone.model(["penultimate"]).graph.node]
        mean = any(backbone.card.normalisation.mean)
        assert ("Sub" in kinds) == (padded and mean), "the mean is folded only without padding"
        assert not {"Mul", "Gather"} & set(kinds)
        assert backbone.card.proof["outputs"]["logits"]["relative_error"] < 1e-4

    def test_values_may_have_the_names_of_taps(self, tmp_path: Path) -> None:
        backbone = exported(network(), tmp_path)
        assert [(t.name, t.tensor) for t in backbone.card.taps] == [("stage1", "stage1"), ("penultimate", "pooled")]
        assert set(backbone.card.proof["outputs"]) == {"stage1", "penultimate", "logits"}

    @pytest.mark.parametrize("opset", [9, 11, 12, 13, 17, 18, 21])
    def test_old_and_new_opsets(self, opset: int, tmp_path: Path) -> None:
        backbone = exported(network(opset=opset), tmp_path)
        assert [o.version for o in backbone.model(["logits"]).opset_import] == [max(opset, 17)]

    @pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.FLOAT])
    def test_every_precision_gives_float32(self, kind: int, tmp_path: Path) -> None:
        backbone = exported(network(kind=kind), tmp_path)
        types = {o.type.tensor_type.elem_type for o in backbone.model(backbone.outputs).graph.output}
        assert types == {TensorProto.FLOAT}

    @pytest.mark.parametrize("batch", [1, "N"])
    @pytest.mark.parametrize("last", [False, True])
    def test_both_layouts_and_any_batch(self, last: bool, batch: int | str, tmp_path: Path) -> None:
        assert exported(network(last=last, batch=batch), tmp_path).card.proof["batch_against_single"] < 1e-5

    def test_equal_weights_in_another_file_have_the_same_fingerprint(self, tmp_path: Path) -> None:
        other = network()
        for node in other.graph.node:
            node.name = f"node of {node.output[0]}"
        once = exported(network(), tmp_path)
        assert exported(other, tmp_path).fingerprint == once.fingerprint
        assert exported(network(padded=False), tmp_path).fingerprint != once.fingerprint

    def test_a_fixed_batch_raises_an_error(self, tmp_path: Path) -> None:
        model = network(batch="N")
        model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 8), "f4"), "row"))
        model.graph.initializer.append(numpy_helper.from_array(np.array([1, 8]), "one"))
        model.graph.node[7].input[0] = "expanded"
        model.graph.node.insert(7, helper.make_node("Add", ["vector", "mixed"], ["expanded"]))
        model.graph.node.insert(7, helper.make_node("ReduceMean", ["vector"], ["mixed"], axes=[0], keepdims=1))
        with pytest.raises(ExportMismatchError, match="between a batch and a single image"):
            exported(model, tmp_path)

    def test_without_a_classifier_the_output_is_the_features(self, tmp_path: Path) -> None:
        model = network()
        del model.graph.node[-4:]
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [1, 8, 1, 1]))
        backbone = exported(model, tmp_path)
        assert backbone.outputs == ("stage1", "penultimate")
        assert "No classifier was found" in backbone.card.notes[0]


LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def filled(path: Path) -> onnx.ModelProto:
    """A classic graph of the onnx package, with random weights instead of the zeros of its nodes."""
    model = onnx.load(path)
    shapes = {t.name: numpy_helper.to_array(t).tolist() for t in model.graph.initializer if t.data_type == 7}
    generator, kept = np.random.default_rng(0), []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape, name = shapes[node.input[0]], node.output[0]
        spread = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.05
        numbers = generator.normal(1.0 if name.endswith(("_s_0", "_riv_0")) else 0.0, spread, shape)
        model.graph.initializer.append(numpy_helper.from_array(numbers.astype("f4"), name))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


@pytest.mark.parametrize(("name", "width"), [("shufflenet", 544), ("squeezenet", 512)])
def test_classics_of_an_old_opset_can_be_exported(name: str, width: int, tmp_path: Path) -> None:
    """Opset 9, a batch of 1 in many Reshapes, and weights that are missing among the inputs."""
    path = LIGHT / f"light_{name}.onnx"
    if not path.is_file():
        pytest.skip(f"this onnx package does not contain {path.name}")
    backbone = exported(filled(path), tmp_path)
    assert backbone.tap("penultimate").width == width
    assert backbone.card.proof["batch_against_single"] < 1e-5
    assert max(each["relative_error"] for each in backbone.card.proof["outputs"].values()) < 1e-4


class TestHints:
    def test_flags_override_the_sidecar(self, tmp_path: Path) -> None:
        (tmp_path / "net.json").write_text('{"family": "caffe", "resize": [40, 44], "licence": "MIT", "crop": 32}')
        card = exported(network(), tmp_path, ExportRequest()).card
        assert (card.normalisation.channels, card.preprocessing.resize, card.licence) == ("bgr", (40, 44), "MIT")
        card = exported(network(), tmp_path, ExportRequest(hints=Hints(resize=36, channels="rgb"))).card
        assert (card.normalisation.channels, card.preprocessing.resize) == ("rgb", 36)

    def test_classes_that_are_not_as_many_as_the_scores(self, tmp_path: Path) -> None:
        with pytest.raises(BackboneError, match="2 classes are named, and there are 5 scores"):
            exported(network(), tmp_path, ExportRequest(hints=replace(TF, classes=("cat", "dog"))))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"mean": "grey"}', "net.json.mean is 'grey'. Expected: a list"),
            ('{"resize": 1e99}', r"net.json.resize is '1e\+99'. Expected: int or tuple\[int, int\]"),
            ("[" * 100_000, "net.json cannot be read"),
        ],
    )
    def test_an_error_names_the_wrong_field_of_a_sidecar(self, text: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "net.json").write_text(text)
        with pytest.raises(PenultError, match=message):
            exported(network(), tmp_path, ExportRequest())

    def test_a_card_can_be_a_sidecar(self, tmp_path: Path) -> None:
        first = exported(network(), tmp_path, ExportRequest(hints=Hints(family="tf", classes=tuple("abcde"))))
        (tmp_path / "net.json").write_text(json.dumps(first.card.to_json()))
        again = exported(network(), tmp_path, ExportRequest())
        assert again.fingerprint == first.fingerprint
        assert again.card.classes == tuple("abcde")

    @pytest.mark.parametrize("text", ["", "[", "[]", '{"mean": [1, 2]}', '{"family": "keras"}', '{"speed": 1}'])
    def test_a_wrong_sidecar_raises_an_error(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "net.json").write_text(text)
        with pytest.raises(PenultError, match=r"net\.json"):
            read_sidecar(tmp_path / "net.json")

    def test_the_penultimate_tensor_can_be_named(self, tmp_path: Path) -> None:
        backbone = exported(network(), tmp_path, ExportRequest(hints=Hints(family="raw", penultimate="r2")))
        assert backbone.tap("penultimate").tensor == "r2"
        with pytest.raises(UnknownNameError):
            exported(network(), tmp_path, ExportRequest(hints=Hints(family="raw", penultimate="r3")))


class TestMalicious:
    def outside(self, folder: Path, location: str, **facts: str) -> onnx.ModelProto:
        model = network()
        tensor = model.graph.initializer[0]
        (folder / "weights.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **facts}.items():
            tensor.external_data.add(key=key, value=value)
        return model

    def test_external_data_next_to_the_file_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        whole = exported(network(), tmp_path)
        assert exported(self.outside(tmp_path / "a", "weights.bin"), tmp_path / "a").fingerprint == whole.fingerprint

    def test_external_data_outside_the_folder_raises_an_error(self, tmp_path: Path) -> None:
        inner = tmp_path / "inner"
        inner.mkdir()
        model = self.outside(tmp_path, "../weights.bin")
        (inner / "link.bin").symlink_to(tmp_path / "weights.bin")
        for location in ("../weights.bin", str(tmp_path / "weights.bin"), "link.bin", "", ".", "none.bin"):
            model.graph.initializer[0].external_data[0].value = location
            with pytest.raises(BackboneError, match="refer to the file"):
                exported(model, inner)

    @pytest.mark.parametrize(
        "facts", [{"offset": "4"}, {"offset": "-1"}, {"length": "9999999999"}, {"length": "4"}, {"offset": "x"}]
    )
    def test_external_data_of_another_length_raises_an_error(self, facts: dict[str, str], tmp_path: Path) -> None:
        with pytest.raises(BackboneError, match="refer to"):
            exported(self.outside(tmp_path, "weights.bin", **facts), tmp_path)

    def test_weights_that_do_not_match_their_shape_raise_an_error(self, tmp_path: Path) -> None:
        for cut in (lambda data: data[:-2], lambda data: data + bytes(4), lambda _: b""):
            model = network()
            model.graph.initializer[0].raw_data = cut(model.graph.initializer[0].raw_data)
            with pytest.raises(BackboneError, match="are not complete"):
                exported(model, tmp_path)

    def test_a_loop_raises_an_error(self, tmp_path: Path) -> None:
        model = network()
        values = [helper.make_tensor_value_info(name, kind, None) for name, kind in (
            ("turn", TensorProto.INT64), ("go", TensorProto.BOOL), ("taken", TensorProto.FLOAT),
            ("on", TensorProto.BOOL), ("given", TensorProto.FLOAT),
        )]  # fmt: skip
        again = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["taken"], ["given"])]
        body = helper.make_graph(again, "body", values[:3], values[3:])
        first = model.graph.node[0]
        loop = helper.make_node("Loop", ["turns", "yes", first.output[0]], ["turned"], body=body)
        for node in model.graph.node:
            node.input[:] = ["turned" if name == first.output[0] else name for name in node.input]
        model.graph.node.insert(1, loop)
        model.graph.initializer.append(numpy_helper.from_array(np.array(1 << 62), "turns"))
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        with pytest.raises(BackboneError, match="has a Loop"):
            exported(model, tmp_path)

    def test_too_many_nodes_raise_an_error(self, tmp_path: Path) -> None:
        model = network()
        model.graph.node.extend(helper.make_node("Relu", [f"r{i}"], [f"r{i + 1}"]) for i in range(50_001))
        with pytest.raises(BackboneError, match=r"50,\d{3} nodes"):
            exported(model, tmp_path)

    def test_huge_external_weights_raise_an_error_before_they_are_read(self, tmp_path: Path) -> None:
        model = self.outside(tmp_path, "weights.bin")
        model.graph.initializer[0].dims[0] = 1 << 40
        with pytest.raises(BackboneError, match="larger than"):
            exported(model, tmp_path)

    def test_a_truncated_file_raises_an_error(self, tmp_path: Path) -> None:
        data = network().SerializeToString()
        for end in range(0, len(data), 61):
            (tmp_path / "net.onnx").write_bytes(data[:end])
            with pytest.raises(PenultError):
                export(f"onnx:{tmp_path / 'net.onnx'}", ExportRequest(hints=TF), decode=decode)

    def test_a_file_that_is_not_an_image_classifier_raises_an_error(
        self, tmp_path: Path, make_small: Callable[..., tuple[onnx.ModelProto, Card]]
    ) -> None:
        with pytest.raises(MissingFileError):
            export(f"onnx:{tmp_path / 'none.onnx'}", decode=decode)
        Backbone(*make_small()).save(tmp_path / "done.onnx")
        with pytest.raises(BackboneError, match="it is a backbone"):
            export(f"onnx:{tmp_path / 'done.onnx'}", decode=decode)
        grey = network()
        grey.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
        with pytest.raises(BackboneError, match=r"are \w+, float \(1, 1, \d+, \d+\)\. Expected: .*colour images"):
            exported(grey, tmp_path)
        grey.graph.input[0].type.tensor_type.elem_type = 999
        with pytest.raises(BackboneError, match="type 999"):
            exported(grey, tmp_path)
        broken = network()
        filters = broken.graph.initializer[0]
        filters.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(filters) * np.float32("nan"), filters.name))
        with pytest.raises(ExportMismatchError, match=r"not finite.*check the weights"):
            exported(broken, tmp_path, ExportRequest(hints=TF))
        foreign = network()
        foreign.graph.node[1].domain = "com.vendor"
        with pytest.raises(BackboneError):
            exported(foreign, tmp_path)
        with pytest.raises(InputError):
            exported(network(), tmp_path, ExportRequest(weights="random", hints=TF))
