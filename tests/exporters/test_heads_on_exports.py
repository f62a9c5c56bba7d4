"""Heads trained on the features of each source's real file reach the expected accuracy."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

import penult
from penult.exporters.exporting import export
from penult.exporters.requests import ExportRequest, Hints
from penult.pipeline.images.decode import decode

os.environ.setdefault("KERAS_BACKEND", "torch")

# Each source, its preprocessing, and the minimum accuracy on hymenoptera (153 images, standard error 2 to 4 points)
# and on steel defects. A linear probe on MobileNetV2 gives .954 and .990. SqueezeNet is a weaker network, and ResNet-8
# has inputs of 32 pixels and was trained on ten classes.
SOURCES = {
    "onnx": ("onnx:{}/mobilenet_v2.onnx", Hints(family="tf"), 0.91, 0.97),
    "onnx in half precision": ("onnx:{}/squeezenet1_1_fp16.onnx", Hints(family="caffe"), 0.87, 0.96),
    "caffe": ("caffe:{0}/caffe_squeezenet1_0/deploy.prototxt,{0}/caffe_squeezenet1_0/{1}", Hints(), 0.87, 0.96),
    "torchvision": ("torchvision:squeezenet1_1@{}/squeezenet1_1_torchvision.pth", Hints(), 0.87, 0.96),
    "keras": ("keras:squeezenet1_1@{}/keras_squeezenet1_1_notop.h5", Hints(), 0.83, 0.96),
    "keras, whole": ("keras:{}/keras_resnet8_cifar10.h5", Hints(family="raw"), 0.63, 0.92),
}
NEEDED = {"torchvision": ("torch", "torchvision"), "keras": ("torch", "keras"), "keras, whole": ("torch", "keras")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # from Keras
@pytest.mark.parametrize("source", SOURCES)
def test_a_head_reaches_the_expected_accuracy(
    source: str, shared_data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for library in NEEDED.get(source, ()):
        if find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    if source == "torchvision":
        request.getfixturevalue("torchvision")
    address, hints, least_of_photos, least_of_steel = SOURCES[source]
    weights = shared_data / "weights"
    caffemodel = next(path.name for path in (weights / "caffe_squeezenet1_0").glob("*.caffemodel"))
    backbone = export(address.format(weights, caffemodel), ExportRequest(hints=hints), decode=decode)
    for folder, least in (("hymenoptera", least_of_photos), ("steel_defects", least_of_steel)):
        fitted = penult.fit(
            shared_data / "images" / folder, tmp_path / "store", backbone=backbone, output=tmp_path / folder
        )
        accuracy = fitted.trained.evaluation.accuracy.value
        print(f"{source}, {folder}: {accuracy:.3f} of {fitted.trained.evaluation.n}")
        assert accuracy >= least
