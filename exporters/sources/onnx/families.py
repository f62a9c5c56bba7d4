"""Files whose way to take pixels is known: those of the ONNX Model Zoo and those converted from Caffe's.

A file says nothing of mean, scale or channel order. Its name and its producer may, and then the card tells what was
concluded from what.
"""

import re
from typing import NamedTuple

import onnx

from penult.exporters.sources.hints import Family, Hints

__all__ = ["known_family"]


class _Known(NamedTuple):
    pattern: str
    hints: Hints


def _known(pattern: str, family: Family, **more: object) -> _Known:
    return _Known(pattern, Hints(family=family, classes="imagenet", **more))  # type: ignore[arg-type]  # fields of Hints


# The names under which the zoo hands out its classifiers, and what its pages say of them.
_BY_NAME = (
    _known(r"(bvlcalexnet|caffenet|rcnn-ilsvrc13|googlenet|inception-v1)-\d+", "caffe"),
    _known(r"(inception-v2|zfnet512|vgg19-caffe2|densenet)-\d+", "caffe"),
    _known(r"(resnet\d+-v[12]|resnet\d+|vgg1[69](-bn)?|mobilenetv2|squeezenet1\.[01]|shufflenet-v2)-\d+", "torch"),
    _Known(
        r"efficientnet-lite4-\d+",
        Hints(mean=(127.0,) * 3, std=(128.0,) * 3, resize=256, classes="imagenet"),
    ),
)


def known_family(name: str, model: onnx.ModelProto) -> tuple[Hints, str] | None:
    """Gives the hints for a known file, and a note that says why it is taken for one."""
    stem = name.lower().removesuffix(".onnx")
    for pattern, hints in _BY_NAME:
        if re.fullmatch(pattern, stem):
            return hints, f"Preprocessing is taken to be that of the ONNX Model Zoo's {stem}, by the file's name."
    if model.producer_name == "onnx-caffe2":
        hints = Hints(family="caffe", classes="imagenet")
        return hints, "Preprocessing is taken to be Caffe's (BGR minus the mean): the file was converted from Caffe2."
    return None
