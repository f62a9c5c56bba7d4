"""Sources are found by their prefix, and other packages can add sources."""

import re
from importlib.metadata import EntryPoint

import pytest

from penult.errors import InputError, UnknownNameError
from penult.exporters.sources import lookup
from penult.exporters.sources.caffe import read_caffe
from penult.exporters.sources.onnx import read_onnx


def test_a_source_has_a_prefix_and_a_rest() -> None:
    assert lookup.find_source("onnx:C:/a.onnx") == (read_onnx, "C:/a.onnx")
    assert lookup.find_source("caffe:a,b") == (read_caffe, "a,b")
    assert {"caffe", "onnx"} <= set(lookup.source_names())


@pytest.mark.parametrize("text", ["onnx", "onnx:", ":x", ""])
def test_a_missing_prefix_raises_an_error(text: str) -> None:
    with pytest.raises((InputError, UnknownNameError)):
        lookup.find_source(text)


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("efficientnet-lite0", "use --backbone efficientnet-lite0"),
        ("nets/vgg.onnx", "onnx:nets/vgg.onnx"),
        ("Mine.KERAS", "keras:Mine.KERAS"),
        ("deploy.prototxt", "caffe:deploy.prototxt,weights.caffemodel"),
        ("mine.pth", "torchvision:NAME@mine.pth, or timm:NAME@mine.pth"),
    ],
)
def test_an_error_suggests_a_full_source(text: str, suggestion: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"{text!r} has no prefix.")) as caught:
        lookup.find_source(text)
    assert f"What to do: {suggestion}" in str(caught.value)
    with pytest.raises(InputError, match="'onnx:' has no name or file after its prefix"):
        lookup.find_source("onnx:")


def test_a_misspelt_prefix_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'caffe'"):
        lookup.find_source("cafe:x")


def test_another_package_adds_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "penult.exporters.sources.onnx:read_onnx", lookup.GROUP)
    monkeypatch.setattr(lookup, "entry_points", lambda group: [point])
    assert lookup.find_source("mine:x") == (read_onnx, "x")
    twice = EntryPoint("onnx", "other:object", lookup.GROUP)
    monkeypatch.setattr(lookup, "entry_points", lambda group: [twice])
    with pytest.raises(InputError, match="Two packages provide"):
        lookup.find_source("onnx:x")
