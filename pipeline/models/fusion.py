"""Joins a backbone and the graph of a head into one graph from pixels to labels and probabilities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from penult.errors import HeadError, SpaceMismatchError
from penult.exporters.backbone import Backbone
from penult.pipeline.heads.head_card import SpaceRef

__all__ = ["FEATURES", "LABEL", "PROBABILITIES", "TIE_STEPS", "fuse", "opset_of", "ranked", "taps_of"]


FEATURES = "features"  # input of a head's graph: float32 (N, D)
PROBABILITIES = "probabilities"  # its output: float32 (N, C), columns in the order of the classes

LABEL = "label"

# Each part has its own prefix, so that no two value names can clash.
BACKBONE_PREFIX, HEAD_PREFIX = "backbone/", "head/"

LARGEST_BYTES = (2 << 30) - 1  # the limit of protobuf


def taps_of(spaces: Sequence[SpaceRef], backbone: Backbone) -> list[str]:
    """Returns the taps of ``backbone`` that ``spaces`` need; raises an error for spaces of another backbone."""
    for space in spaces:
        if space.fingerprint != backbone.fingerprint:
            raise SpaceMismatchError(
                f"The head needs features of {space.backbone} {space.fingerprint[:16]}",
                expected=f"only features of {backbone.name} {backbone.fingerprint[:16]}",
                remedy="bundle it with the backbone that made its features; a file contains one backbone",
            )
        if space.view != "identity":
            raise HeadError(
                f"The head needs features of the view {space.view!r}",
                expected="features of unchanged images",
                remedy="train a head on the identity view",
            )
    return list(dict.fromkeys(space.tap for space in spaces))


def opset_of(backbone: Backbone) -> int:
    """Returns the operator set version of the backbone's graph, which the head's graph uses too."""
    graph = backbone.model([backbone.outputs[0]])
    return max(int(entry.version) for entry in graph.opset_import if entry.domain in ("", "ai.onnx"))


def fuse(
    backbone: Backbone, spaces: Sequence[SpaceRef], head: onnx.ModelProto, classes: Sequence[str]
) -> onnx.ModelProto:
    """Returns the joined model; ``head`` maps ``features`` (N, D) to ``probabilities`` (N, C), both float32."""
    base = backbone.model(taps_of(spaces, backbone))
    model = onnx.compose.add_prefix(base, BACKBONE_PREFIX, rename_inputs=False)
    upper = onnx.compose.add_prefix(head, HEAD_PREFIX)
    graph = model.graph
    graph.name = "penult model"
    _add_features(graph, spaces)
    graph.node.append(helper.make_node("Identity", [FEATURES], [HEAD_PREFIX + FEATURES], name="fusion/head"))
    graph.node.extend(upper.graph.node)
    graph.initializer.extend(upper.graph.initializer)
    graph.node.append(
        helper.make_node("Identity", [HEAD_PREFIX + PROBABILITIES], [PROBABILITIES], name="fusion/probabilities")
    )
    _add_label(graph, classes)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(LABEL, TensorProto.STRING, ["N"]))
    graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["N", len(classes)]))
    _align(model, upper)
    _check(model)
    return model


def _add_features(graph: onnx.GraphProto, spaces: Sequence[SpaceRef]) -> None:
    """Adds the concatenation of the taps, rounded to the dtype of their spaces because the head was trained on it."""
    parts = []
    for number, space in enumerate(spaces):
        value = BACKBONE_PREFIX + space.tap
        if space.dtype == "float16":
            for step, kind in (("stored", TensorProto.FLOAT16), ("loaded", TensorProto.FLOAT)):
                name = f"fusion/{number}/{step}"
                graph.node.append(helper.make_node("Cast", [value], [name], name=name, to=kind))
                value = name
        parts.append(value)
    graph.node.append(helper.make_node("Concat", parts, [FEATURES], name="fusion/features", axis=1))


def _add_label(graph: onnx.GraphProto, classes: Sequence[str]) -> None:
    """Adds the name of the most probable class, as `ranked` orders the classes."""
    steps = numpy_helper.from_array(np.array(TIE_STEPS, np.float32), "fusion/steps")
    names = numpy_helper.from_array(np.array(classes, object), "fusion/classes")
    graph.initializer.extend([steps, names])
    graph.node.extend(
        [
            helper.make_node("Mul", [PROBABILITIES, "fusion/steps"], ["fusion/scaled"], name="fusion/scaled"),
            helper.make_node("Round", ["fusion/scaled"], ["fusion/rounded"], name="fusion/rounded"),
            helper.make_node("ArgMax", ["fusion/rounded"], ["fusion/best"], name="fusion/best", axis=1, keepdims=0),
            helper.make_node("Gather", ["fusion/classes", "fusion/best"], [LABEL], name="fusion/label"),
        ]
    )


def _align(model: onnx.ModelProto, upper: onnx.ModelProto) -> None:
    """Sets one version of each operator set, and the newer IR version of the two graphs.

    A converter declares the oldest operator set that its operators support, so a newer one changes nothing.
    """
    versions: dict[str, int] = {}
    for entry in (*model.opset_import, *upper.opset_import):
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        versions[domain] = max(versions.get(domain, 1), entry.version)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())
    model.ir_version = max(model.ir_version, upper.ir_version)


def _check(model: onnx.ModelProto) -> None:
    if model.ByteSize() > LARGEST_BYTES:
        raise HeadError(
            f"The model would have {model.ByteSize():,} bytes",
            expected=f"at most {LARGEST_BYTES:,}, the limit of an ONNX file",
            remedy="bundle a head that stores no training rows, such as logistic",
        )
    onnx.checker.check_model(model, full_check=True)


TIE_STEPS = 2**20
"""Probabilities that round to the same multiple of 1 / TIE_STEPS are ties.

Classes often tie in forests and among neighbours; the last digit of a sum must not decide the label.
"""


def ranked(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
    """Returns the class indices along the last axis, the most probable first; ties are in the order of the classes.

    >>> ranked(np.array([0.2, 0.39999998, 0.4])).tolist()
    [1, 2, 0]
    """
    return np.argsort(-np.round(probabilities * TIE_STEPS), axis=-1, kind="stable")
