"""Fixtures for tests of exporters: real photos, small graphs, and ways to run a backbone."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from penult.exporters import Backbone, Card, Normalisation, Preprocessing, Tap
from penult.exporters.graph.graph_writer import GraphWriter, float_value
from tests.exporters.torchvision_shim import import_torchvision

Session = Callable[[Backbone, npt.NDArray[np.uint8]], dict[str, npt.NDArray[np.float32]]]


@pytest.fixture(scope="session")
def torchvision() -> Any:
    """Torchvision, even if its compiled part does not match the installed torch."""
    return import_torchvision()


@pytest.fixture(scope="session")
def labelled_photos(shared_data: Path) -> list[tuple[Path, int]]:
    """A hundred ImageNet photos and their class indices."""
    folder = shared_data / "images" / "imagenet_100"
    with (folder / "labels.csv").open(newline="") as stream:
        return [(folder / row["file"], int(row["class_index"])) for row in csv.DictReader(stream)]


def prepared(path: Path, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """Resizes the shorter side (bicubic) and crops the centre with Pillow, without the decoder of penult."""
    with Image.open(path) as image:
        rgb = image.convert("RGB")
    assert isinstance(preprocessing.resize, int)
    scale = preprocessing.resize / min(rgb.size)
    sides = [max(preprocessing.resize, round(side * scale)) for side in rgb.size]
    resized = rgb.resize((sides[0], sides[1]), Image.Resampling.BICUBIC)
    height, width = preprocessing.crop
    left, top = (resized.width - width) // 2, (resized.height - height) // 2
    return np.asarray(resized.crop((left, top, left + width, top + height)), dtype=np.uint8)


@pytest.fixture(scope="session")
def pixels_of() -> Callable[[Path, Preprocessing], npt.NDArray[np.uint8]]:
    return prepared


@pytest.fixture(scope="session")
def run_all() -> Session:
    """Runs all outputs of a backbone on the CPU in one thread."""
    import onnxruntime

    def run(backbone: Backbone, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            backbone.serialized(backbone.outputs), options, providers=["CPUExecutionProvider"]
        )
        return dict(zip(backbone.outputs, session.run(None, {"pixels": pixels}), strict=True))

    return run


@pytest.fixture(scope="session")
def hits() -> Callable[..., tuple[int, int]]:
    """Counts top-1 and top-5 hits on photos; ``shift`` is 1 if the first class is the background."""
    import onnxruntime

    def count(backbone: Backbone, photos: list[tuple[Path, int]], *, shift: int = 0) -> tuple[int, int]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            backbone.serialized(["logits"]), options, providers=["CPUExecutionProvider"]
        )
        first = fifth = 0
        for path, label in photos:
            pixels = prepared(path, backbone.card.preprocessing)[None]
            best = np.argsort(-session.run(None, {"pixels": pixels})[0][0])[:5] - shift
            first += best[0] == label
            fifth += label in best
        return first, fifth

    return count


def small_model(weights: Mapping[str, npt.NDArray[np.float32]], side: int = 8) -> onnx.ModelProto:
    """A network with one convolution, ReLU, global average pool (penultimate, width 4) and 3 logits."""
    writer = GraphWriter()
    writer.node("Transpose", ["pixels"], "moved", perm=[0, 3, 1, 2])
    writer.node("Cast", ["moved"], "floats", to=TensorProto.FLOAT)
    writer.node("Conv", ["floats", writer.constant("filters", weights["filters"])], "convolved", strides=[2, 2])
    writer.node("Relu", ["convolved"], "rectified")
    writer.pooled("rectified", "penultimate")
    writer.node("MatMul", ["penultimate", writer.constant("classifier", weights["classifier"])], "logits")
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", side, side, 3])
    return writer.model("small", [pixels], [float_value("penultimate", "N", 4), float_value("logits", "N", 3)])


def small_weights(seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    return {
        "filters": generator.normal(size=(4, 3, 2, 2)).astype(np.float32),
        "classifier": generator.normal(size=(4, 3)).astype(np.float32),
    }


def small_card(side: int = 8) -> Card:
    return Card(
        name="small",
        source="a test",
        licence="none",
        preprocessing=Preprocessing(resize=side + 2, crop=(side, side)),
        normalisation=Normalisation(),
        taps=(Tap("penultimate", "rectified", 4),),
        classes=("a", "b", "c"),
    )


@pytest.fixture(scope="session")
def make_small() -> Callable[..., tuple[onnx.ModelProto, Card]]:
    def make(seed: int = 0, side: int = 8) -> tuple[onnx.ModelProto, Card]:
        return small_model(small_weights(seed), side), small_card(side)

    return make


@pytest.fixture
def small() -> tuple[onnx.ModelProto, Card]:
    return small_model(small_weights()), small_card()


@pytest.fixture
def small_backbone(small: tuple[onnx.ModelProto, Card], run_all: Session) -> Backbone:
    from penult.exporters.reference import describe

    backbone = Backbone(*small)
    outputs = run_all(backbone, backbone.reference_batch())
    return Backbone(small[0], replace(small[1], reference=describe(outputs)))
