"""Exported Caffe networks, in the V1 and the current format, match the definitions of Caffe's layers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf import text_format

from penult.errors import BackboneError, InputError, MissingFileError, PenultError
from penult.exporters import Backbone
from penult.exporters.cpu_session import CpuSession
from penult.exporters.exporting import export
from penult.exporters.reference import reference_batch
from penult.exporters.requests import ExportRequest, Hints
from penult.exporters.sources.caffe import read_caffe
from penult.exporters.sources.caffe.layers import WRITERS
from penult.exporters.sources.caffe.net import new_message
from penult.exporters.sources.caffe.numpy_reference import LAYERS
from penult.pipeline.images.decode import decode


def blob(target: Any, array: npt.NDArray[Any], *, older: bool = False) -> None:
    target.data = array.astype("<f4").tobytes()
    if older:
        sides = [1] * (4 - array.ndim) + list(array.shape)
        target.num, target.channels, target.height, target.width = sides
    else:
        target.shape.dim.extend(array.shape)


def write(folder: Path, text: str, weights: Mapping[str, list[npt.NDArray[Any]]], *, older: bool = False) -> str:
    (folder / "deploy.prototxt").write_text(text)
    net = new_message("NetParameter")
    for name, arrays in weights.items():
        layer = (net.layers if older else net.layer).add(name=name)
        for array in arrays:
            blob(layer.blobs.add(), array, older=older)
    (folder / "w.caffemodel").write_bytes(net.SerializeToString())
    return f"caffe:{folder / 'deploy.prototxt'},{folder / 'w.caffemodel'}"


def normal(*shape: int, seed: int = 0) -> npt.NDArray[np.float64]:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


HEAD = 'name: "Net" input: "data" input_dim: 10 input_dim: 3 input_dim: 37 input_dim: 37\n'
TAIL = """
layer { name: "pool" type: "Pooling" bottom: "last" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 4 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
FILTERS = {"conv": [normal(6, 3, 3, 3) / 9, normal(6)], "fc": [normal(4, 6), normal(4)]}
CONV = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 6 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
"""


def middle(text: str) -> str:
    return HEAD + CONV + text + TAIL


MIDDLES: dict[str, tuple[str, dict[str, list[npt.NDArray[Any]]]]] = {}


def case(name: str, text: str, **weights: list[npt.NDArray[Any]]) -> None:
    MIDDLES[name] = (f'layer {{ name: "mid" bottom: "conv" top: "last" {text} }}', weights)


for method in ("MAX", "AVE"):
    for kernel, stride, pad in ((3, 2, 0), (3, 2, 1), (2, 2, 0), (5, 3, 2), (3, 1, 1), (4, 4, 1), (2, 3, 1)):
        case(
            f"{method} {kernel}/{stride}+{pad}",
            f'type: "Pooling" pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad} }}',
        )
case("floor", 'type: "Pooling" pooling_param { pool: MAX kernel_size: 2 stride: 2 round_mode: FLOOR }')
case(
    "sides",
    'type: "Pooling" pooling_param { pool: AVE kernel_h: 2 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0 }',
)
case("lrn", 'type: "LRN" lrn_param { local_size: 5 alpha: 0.3 beta: 0.75 k: 2 }')
case("lrn within", 'type: "LRN" lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 norm_region: WITHIN_CHANNEL }')
case("leaky", 'type: "ReLU" relu_param { negative_slope: 0.1 }')
case("power", 'type: "Power" power_param { power: 2 scale: 0.5 shift: 1 }')
case("sigmoid", 'type: "Sigmoid"')
case("tanh", 'type: "TanH"')
case("abs", 'type: "AbsVal"')
case("dropout", 'type: "Dropout" dropout_param { dropout_ratio: 0.5 }')
case(
    "groups",
    'type: "Convolution" convolution_param { num_output: 6 kernel_size: 3 pad: 1 group: 3 stride: 2 bias_term: false }',
    mid=[normal(6, 2, 3, 3)],
)
case(
    "dilation",
    'type: "Convolution" convolution_param { num_output: 6 kernel_h: 3 kernel_w: 1 pad_h: 2 pad_w: 0 dilation: 2 }',
    mid=[normal(6, 6, 3, 1), normal(6)],
)
case("batch norm", 'type: "BatchNorm" batch_norm_param { eps: 1e-3 }', mid=[normal(6), normal(6) ** 2, np.array([3.0])])
case("batch norm of nothing", 'type: "BatchNorm"', mid=[normal(6), normal(6) ** 2, np.array([0.0])])
case("scale", 'type: "Scale" scale_param { bias_term: true }', mid=[normal(6), normal(6, seed=1)])
case("scale alone", 'type: "Scale"', mid=[normal(6)])
for operation in ("SUM", "PROD", "MAX"):
    case(
        f"eltwise {operation}",
        f'type: "Eltwise" bottom: "conv" bottom: "conv" eltwise_param {{ operation: {operation} }}',
    )
case("elu", 'type: "ELU" elu_param { alpha: 0.7 }')
case("prelu", 'type: "PReLU"', mid=[normal(6)])
case("prelu shared", 'type: "PReLU" prelu_param { channel_shared: true }', mid=[normal(1)])
case("relu6", 'type: "ReLU6"')
case("reshape", 'type: "Reshape" reshape_param { shape { dim: 0 dim: 6 dim: 25 dim: -1 } }')
case(
    "slice",
    'type: "Slice" top: "rest" slice_param { slice_point: 2 } } layer { name: "again" type: "Concat" bottom: "rest" '
    'bottom: "last" top: "joined" } layer { name: "named" type: "Split" bottom: "joined" top: "last"',
)
case("coefficients", 'type: "Eltwise" bottom: "conv" eltwise_param { operation: SUM coeff: 1 coeff: -0.25 }')


def exported(source: str, request: ExportRequest | None = None) -> Backbone:
    return export(source, request or ExportRequest(), decode=decode)


@pytest.mark.parametrize("name", MIDDLES)
def test_each_layer_matches_its_definition(name: str, tmp_path: Path) -> None:
    text, weights = MIDDLES[name]
    request = ExportRequest(hints=Hints(family="tf"))
    backbone = exported(write(tmp_path, middle(text), {**FILTERS, **weights}), request)
    assert backbone.card.proof["outputs"]["logits"]["relative_error"] < 1e-4
    assert backbone.tap("penultimate").width == 6


V1 = """
name: "Old" input: "data" input_shape { dim: 1 dim: 3 dim: 33 dim: 33 }
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 weight_decay: 1
  convolution_param { num_output: 6 kernel_size: 3 stride: 2 weight_filler { type: "gaussian" std: 0.01 } } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "norm" type: LRN bottom: "conv" top: "norm" lrn_param { local_size: 3 alpha: 0.1 } }
layers { name: "pool" type: POOLING bottom: "norm" top: "pool" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layers { name: "left" type: CONVOLUTION bottom: "pool" top: "left" convolution_param { num_output: 4 kernel_size: 1 } }
layers { name: "both" type: CONCAT bottom: "left" bottom: "pool" top: "both" concat_param { concat_dim: 1 } }
layers { name: "fc6" type: INNER_PRODUCT bottom: "both" top: "fc6" inner_product_param { num_output: 7 } }
layers { name: "relu6" type: RELU bottom: "fc6" top: "fc6" }
layers { name: "drop6" type: DROPOUT bottom: "fc6" top: "fc6" }
layers { name: "fc7" type: INNER_PRODUCT bottom: "fc6" top: "fc7" inner_product_param { num_output: 5 } }
layers { name: "prob" type: SOFTMAX bottom: "fc7" top: "prob" }
"""
V1_WEIGHTS = {
    "conv": [normal(6, 3, 3, 3), normal(6)],
    "left": [normal(4, 6, 1, 1), normal(4)],
    "fc6": [normal(7, 640) / 30, normal(7)],
    "fc7": [normal(5, 7), normal(5)],
}


def test_the_v1_format(tmp_path: Path) -> None:
    backbone = exported(write(tmp_path, V1, V1_WEIGHTS, older=True))
    assert [(t.name, t.tensor, t.width) for t in backbone.card.taps] == [
        ("stage1", "norm", 6),
        ("stage2", "both", 10),
        ("penultimate", "fc6", 7),
    ]
    assert backbone.card.proof["outputs"]["penultimate"]["relative_error"] < 1e-4
    newer = exported(write(tmp_path, V1, V1_WEIGHTS))
    assert newer.fingerprint == backbone.fingerprint


def test_an_in_place_blob_has_its_last_value(tmp_path: Path) -> None:
    """``fc6`` is the value after the ReLU; the output of the layer itself also has a name."""
    from penult.exporters.requests import parse_taps

    source = write(tmp_path, V1, V1_WEIGHTS)
    request = ExportRequest(taps=parse_taps("after=fc6,before=fc6 of fc6"))
    assert exported(source, request).card.proof["outputs"].keys() == {"after", "before", "penultimate", "logits"}


def test_an_input_layer_and_its_transform(tmp_path: Path) -> None:
    text = (
        'layer { name: "in" type: "Input" top: "data" transform_param { scale: 0.017 mean_value: 103.94 '
        "mean_value: 116.78 mean_value: 123.68 } input_param { shape { dim: 1 dim: 3 dim: 37 dim: 37 } } }"
        + CONV.replace('top: "conv" convolution_param', 'top: "conv" include { phase: TEST } convolution_param')
        + 'layer { name: "train" type: "ReLU" bottom: "none" top: "none" include { phase: TRAIN } }'
        + TAIL.replace('"last"', '"conv"')
    )
    card = exported(write(tmp_path, text, FILTERS)).card
    assert card.normalisation.channels == "bgr"
    assert card.normalisation.mean == pytest.approx((103.94, 116.78, 123.68))
    assert card.normalisation.std == pytest.approx((1 / 0.017,) * 3)
    assert not card.notes


def test_random_weights_are_noted_on_the_card(tmp_path: Path) -> None:
    text = middle('layer { name: "mid" type: "BatchNorm" bottom: "conv" top: "last" }')
    (tmp_path / "deploy.prototxt").write_text(text)
    request = ExportRequest(weights="random")
    once, again = (exported(f"caffe:{tmp_path / 'deploy.prototxt'}", request) for _ in range(2))
    assert once.fingerprint == again.fingerprint
    assert once.card.weights == {"name": "random"}
    assert once.card.has_random_weights
    assert any("random" in note for note in once.card.notes)
    assert once.name == "Net-random"


class TestReal:
    @pytest.fixture
    def files(self, shared_data: Path) -> tuple[Path, Path]:
        folder = shared_data / "weights" / "caffe_squeezenet1_0"
        return folder / "deploy.prototxt", folder / "squeezenet1_0.caffemodel"

    def test_squeezenet(
        self,
        files: tuple[Path, Path],
        labelled_photos: list[tuple[Path, int]],
        hits: Callable[..., tuple[int, int]],
    ) -> None:
        backbone = exported(f"caffe:{files[0]},{files[1]}")
        assert backbone.input_size == (227, 227)
        assert backbone.card.preprocessing.resize == 256
        assert [(t.name, t.tensor, t.width) for t in backbone.card.taps] == [
            ("stage1", "conv1", 96),
            ("stage2", "fire4/concat", 256),
            ("stage3", "fire8/concat", 512),
            ("penultimate", "fire9/concat", 512),
        ]
        assert max(e["relative_error"] for e in backbone.card.proof["outputs"].values()) < 1e-5
        assert hits(backbone, labelled_photos) == (64, 86)

    def test_opencv_gives_the_same_outputs(self, files: tuple[Path, Path]) -> None:
        cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
        if not hasattr(cv2.dnn, "readNetFromCaffe"):
            pytest.skip("this OpenCV no longer reads Caffe files")
        network = read_caffe(f"{files[0]},{files[1]}", ExportRequest())
        image = reference_batch(227, 227, 1).astype("f4").transpose(0, 3, 1, 2) - 110
        reader = cv2.dnn.readNetFromCaffe(str(files[0]), str(files[1]))
        reader.setInput(image)
        session = CpuSession(network.model.SerializeToString(), "the network")
        name = network.model.graph.output[0].name
        ours = session.run([name], {"data": image})[name]
        np.testing.assert_allclose(ours, reader.forward(), rtol=1e-3, atol=1e-6)


class TestMalicious:
    def test_errors_name_what_is_missing(self, tmp_path: Path) -> None:
        source = write(tmp_path, V1, V1_WEIGHTS)
        with pytest.raises(InputError, match="names no weights"):
            exported(source.partition(",")[0])
        with pytest.raises(MissingFileError, match="none"):
            exported(source.partition(",")[0] + ",none.caffemodel")
        with pytest.raises(MissingFileError):
            exported("caffe:none.prototxt,none.caffemodel")
        with pytest.raises(BackboneError, match=r"0 blobs for the layer 'fc7'"):
            exported(write(tmp_path, V1, {k: v for k, v in V1_WEIGHTS.items() if k != "fc7"}))
        with pytest.raises(BackboneError, match=r"'fc7' have the shape \[5, 8\]"):
            exported(write(tmp_path, V1, {**V1_WEIGHTS, "fc7": [normal(5, 8), normal(5)]}))
        with pytest.raises(BackboneError, match="contains no weights"):
            exported(write(tmp_path, V1, {}))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "layer {",
            "\xff\xfe",
            "a { " * 5000,
            HEAD,
            'name: "x" layer { name: "d" type: "Data" top: "data" }',
            HEAD + 'layer { name: "p" type: "Python" bottom: "data" top: "x" }',
            HEAD + 'layer { name: "r" type: "ReLU" bottom: "nowhere" top: "x" }',
            HEAD + 'layer { name: "r" type: "ReLU" }',
            HEAD + 'layer { name: "c" type: "Convolution" bottom: "data" top: "x" }',
            HEAD + 'layer { name: "p" type: "Pooling" bottom: "data" top: "x" pooling_param { kernel_size: 99 } }',
            HEAD
            + 'layer { name: "p" type: "Pooling" bottom: "data" top: "x" pooling_param { kernel_size: 2 stride: 0 } }',
            HEAD + 'layer { name: "p" type: "Pooling" bottom: "data" top: "x" pooling_param { pool: STOCHASTIC } }',
            HEAD + 'layer { name: "c" type: "Convolution" bottom: "data" top: "x" convolution_param '
            "{ num_output: 4000000000 kernel_size: 3 } }",
            HEAD + 'layer { name: "c" type: "Convolution" bottom: "data" top: "x" convolution_param '
            "{ num_output: 6 kernel_size: 3 group: 0 } }",
            HEAD.replace("input_dim: 37", "input_dim: 0"),
            HEAD.replace("input_dim: 3 ", "input_dim: 1 ") + CONV + TAIL,
        ],
    )
    def test_a_broken_text_raises_an_error(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "deploy.prototxt").write_text(text, encoding="latin-1")
        for request in (ExportRequest(weights="random"), ExportRequest(weights=str(tmp_path / "none.caffemodel"))):
            with pytest.raises(PenultError):
                exported(f"caffe:{tmp_path / 'deploy.prototxt'}", request)

    def test_broken_weights_raise_an_error(self, tmp_path: Path) -> None:
        source = write(tmp_path, V1, V1_WEIGHTS)
        path = tmp_path / "w.caffemodel"
        data = path.read_bytes()
        for end in range(0, len(data), 1009):
            path.write_bytes(data[:end])
            with pytest.raises(BackboneError):
                exported(source)
        net = new_message("NetParameter")
        layer = net.layer.add(name="conv")
        layer.blobs.add(data=b"\0" * 8).shape.dim.extend([1 << 40, 1 << 40])
        path.write_bytes(net.SerializeToString())
        with pytest.raises(BackboneError, match="has 8 bytes for the shape"):
            exported(source)


def test_every_supported_layer_has_a_definition() -> None:
    assert set(WRITERS) == set(LAYERS)


def test_unknown_fields_of_the_text_are_ignored() -> None:
    net = new_message("NetParameter")
    text_format.Parse("layer { name: 'a' unknown { x: 1 } type: 'ReLU' }", net, allow_unknown_field=True)
    assert net.layer[0].type == "ReLU"
