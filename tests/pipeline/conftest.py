"""Fixtures: a small backbone and a small collection, for fast jobs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from penult.exporters.backbone import Backbone
from penult.exporters.card import Card, Normalisation, Preprocessing, Tap
from penult.exporters.graph.graph_writer import GraphWriter
from penult.exporters.reference import describe
from tests.pipeline import chromium
from tests.pipeline.colours import CLASSES, draw_colours

SIDE = 32


def _small_model(seed: int) -> onnx.ModelProto:
    chance = np.random.default_rng(seed)
    writer = GraphWriter()
    writer.node("Transpose", ["pixels"], "moved", perm=[0, 3, 1, 2])
    writer.node("Cast", ["moved"], "floats", to=TensorProto.FLOAT)
    for name, source, inputs, width in (("first", "floats", 3, 8), ("second", "first_out", 8, 12)):
        filters = chance.normal(0, 0.2 / inputs, (width, inputs, 3, 3)).astype(np.float32)
        writer.node("Conv", [source, writer.constant(f"{name}_filters", filters)], f"{name}_sums", strides=[2, 2])
        writer.node("Relu", [f"{name}_sums"], f"{name}_out")
    writer.pooled("first_out", "stage1")
    writer.pooled("second_out", "penultimate")
    classifier = chance.normal(size=(12, 3)).astype(np.float32)
    writer.node("MatMul", ["penultimate", writer.constant("classifier", classifier)], "logits")
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", SIDE, SIDE, 3])
    widths = {"penultimate": 12, "stage1": 8, "logits": 3}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]) for name, width in widths.items()]
    return writer.model("small", [pixels], outputs)


@pytest.fixture(scope="session")
def make_backbone() -> Callable[[int], Backbone]:
    """Returns a small backbone with random weights."""

    def make(seed: int) -> Backbone:
        card = Card(
            name=f"small-{seed}",
            source="a test",
            licence="none",
            preprocessing=Preprocessing(resize=36, crop=(SIDE, SIDE), interpolation="bilinear"),
            normalisation=Normalisation(),
            taps=(Tap("penultimate", "second_out", 12), Tap("stage1", "first_out", 8, stage=1)),
            classes=CLASSES,
        )
        model = _small_model(seed)
        bare = Backbone(model, card)
        session = onnxruntime.InferenceSession(bare.to_bytes(), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        outputs = dict(zip(names, session.run(names, {"pixels": bare.reference_batch()}), strict=True))
        return Backbone(model, replace(card, reference=describe(outputs)))

    return make


@pytest.fixture(scope="session")
def small_backbone(make_backbone: Callable[[int], Backbone]) -> Backbone:
    return make_backbone(0)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A folder of 30 different images in three classes."""
    return draw_colours(tmp_path / "photos")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Chromium]:
    """A headless Chromium with one tab."""
    program = chromium.program()
    if program is None:
        pytest.skip("Chromium is not installed, so no page can be opened")
    started = chromium.Chromium(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.end()
