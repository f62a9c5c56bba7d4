"""A source is found by its prefix, and another package adds one with a line."""

import re
from importlib.metadata import EntryPoint

import pytest

from penult.errors import InputError, UnknownNameError
from penult.exporters.sources import lookup as sources
from penult.exporters.sources.caffe.source import read_caffe
from penult.exporters.sources.onnx.source import read_onnx


def test_a_source_is_a_prefix_and_a_rest() -> None:
    assert sources.find_source("onnx:C:/a.onnx") == (read_onnx, "C:/a.onnx")
    assert sources.find_source("caffe:a,b") == (read_caffe, "a,b")
    assert {"caffe", "onnx"} <= set(sources.source_names())


@pytest.mark.parametrize("text", ["onnx", "onnx:", ":x", ""])
def test_what_has_no_prefix_is_told(text: str) -> None:
    with pytest.raises((InputError, UnknownNameError)):
        sources.find_source(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("efficientnet-lite0", "it is built in: --backbone efficientnet-lite0"),
        ("nets/vgg.onnx", "onnx:nets/vgg.onnx"),
        ("Mine.KERAS", "keras:Mine.KERAS"),
        ("deploy.prototxt", "caffe:deploy.prototxt,weights.caffemodel"),
        ("mine.pth", "torchvision:NAME@mine.pth, or timm:NAME@mine.pth"),
    ],
)
def test_what_was_meant_without_a_prefix_is_told(text: str, meant: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"{text!r} has no prefix.")) as told:
        sources.find_source(text)
    assert f"What to do: {meant}" in str(told.value)
    with pytest.raises(InputError, match="'onnx:' has no name or file after its prefix"):
        sources.find_source("onnx:")


def test_a_slip_is_answered_with_advice() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'caffe'"):
        sources.find_source("cafe:x")


def test_another_package_adds_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "penult.exporters.sources.onnx:read_onnx", sources.GROUP)
    monkeypatch.setattr(sources, "entry_points", lambda group: [point])
    assert sources.find_source("mine:x") == (read_onnx, "x")
    twice = EntryPoint("onnx", "other:object", sources.GROUP)
    monkeypatch.setattr(sources, "entry_points", lambda group: [twice])
    with pytest.raises(InputError, match="given twice"):
        sources.find_source("onnx:x")
