"""Finds the classifier of a network and its input: the penultimate features.

The classifier may be a Gemm, a MatMul with an Add, or a convolution, before or after the global pool. Softmax, Flatten,
Reshape, Squeeze, Dropout and similar nodes may be around it.
"""

from dataclasses import dataclass

import onnx

from penult.errors import BackboneError
from penult.exporters.graph.graph_view import GraphView, flops_up_to

__all__ = ["ClassifierTensors", "find_classifier", "skip_nodes"]

_RESHAPING = {"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Dropout", "Cast", "Transpose"}
_SCORING = {"Softmax", "LogSoftmax", "Sigmoid"}
_POOLING = {"GlobalAveragePool", "AveragePool", "ReduceMean"}
_SHIFTING = {"Add", "Sub", "Mul", "Div", "Relu", "Clip", "BatchNormalization"}
# A convolution before the pool is a classifier only if it has a softmax or a known number of classes.
_CLASS_COUNTS = {1000, 1001, 11821, 21841, 21843}


@dataclass(frozen=True)
class ClassifierTensors:
    """The names of two values: ``scores`` before the softmax, and ``features``, the input of the classifier."""

    scores: str
    features: str


def find_classifier(view: GraphView, classes: int | None = None) -> ClassifierTensors | None:
    """Returns the classifier with the most FLOPs before it, or None if no output comes from a classifier.

    ``classes`` is the number of classes, if known.
    """
    found = [each for output in view.graph.output if (each := _of_output(view, output.name, classes))]
    if not found:
        return None
    return max(found, key=lambda each: flops_up_to(view.graph, each.features, view.shapes) or 0)


def skip_nodes(view: GraphView, value: str, kinds: set[str]) -> tuple[str, set[str]]:
    """Follows the producers of ``value`` through nodes of these kinds; returns the first other value and the kinds."""
    met = set()
    while (node := view.producers.get(value)) is not None and node.op_type in kinds:
        data = view.data_inputs(node)
        if len(data) != 1:
            break
        met.add(node.op_type)
        value = data[0]
    return value, met


def _of_output(view: GraphView, output: str, classes: int | None) -> ClassifierTensors | None:
    scores, met = skip_nodes(view, output, _RESHAPING | _SCORING)
    weighted, between = skip_nodes(view, scores, _RESHAPING | _POOLING | _SHIFTING)
    node = view.producers.get(weighted)
    if node is not None and node.op_type == "Add" and len(view.data_inputs(node)) == 2:
        features = {_features_of_branch(view, name) for name in view.data_inputs(node)}
        common = features.pop() if len(features) == 1 else None
        return ClassifierTensors(scores, common) if common is not None else None
    if node is None or len(view.data_inputs(node)) != 1:
        return None
    if node.op_type in ("Gemm", "MatMul"):
        return None if "BatchNormalization" in between else ClassifierTensors(scores, _features(view, node))
    if node.op_type != "Conv" or "BatchNormalization" in between:
        return None
    counts = _CLASS_COUNTS if classes is None else {classes}
    if met & _SCORING or view.width(weighted) in counts:
        return ClassifierTensors(scores, _features(view, node))
    return None


def _features_of_branch(view: GraphView, scores: str) -> str | None:
    """Returns the input of one of two classifiers whose scores are averaged, as in distilled networks.

    Each may have its own BatchNorm before it; the input that both share is the features.
    """
    node = view.producers.get(skip_nodes(view, scores, _RESHAPING | _SHIFTING)[0])
    if node is None or node.op_type not in ("Gemm", "MatMul") or len(view.data_inputs(node)) != 1:
        return None
    normed = view.producers.get(value := _features(view, node))
    return _features(view, normed) if normed is not None and normed.op_type == "BatchNormalization" else value


def _features(view: GraphView, node: onnx.NodeProto) -> str:
    """Returns the input of a classifier, before nodes that do not change the numbers."""
    value = view.data_inputs(node)[0]
    while True:
        maker = view.producers.get(value)
        if maker is None or maker.op_type not in _RESHAPING or len(view.data_inputs(maker)) != 1:
            return value
        before = view.data_inputs(maker)[0]
        if maker.op_type not in ("Identity", "Dropout", "Cast") and not _is_vector(view, before):
            return value
        value = before


def _is_vector(view: GraphView, value: str) -> bool:
    shape = view.shapes.get(value)
    if shape is None:
        raise BackboneError(
            f"The shape of the value {value!r} cannot be inferred",
            expected="a network whose shapes follow from its input size",
            remedy="pass --penultimate",
        )
    return len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))
