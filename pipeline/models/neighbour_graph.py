"""Writes the heads that compare a row with stored rows: nearest neighbours, and machines with a Gaussian kernel.

The converters do this row by row or in float32, and turn the two classes of a calibrated machine round. Here it is one
matrix product in float64.
"""

from itertools import combinations
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC

from penult.exporters.graph.graph_writer import GraphWriter

__all__ = ["compared_graph"]

ROWS = "rows"


class _Writer(GraphWriter):
    def least(self, values: str, count: str) -> str:
        """Adds the places of the least ``count`` values of each row."""
        outputs = ["nearest.distances", "nearest"]
        self._nodes.append(helper.make_node("TopK", [values, count], outputs, name="nearest", largest=0))
        return "nearest"


def compared_graph(estimator: BaseEstimator, opset: int) -> onnx.ModelProto | None:
    """Returns the float64 graph from rows (N, D) to probabilities (N, C), or None for what is not written here."""
    writer = _Writer()
    if isinstance(estimator, Pipeline) and _are_neighbours(estimator):
        rows = _scaled(writer, estimator)
        given = _neighbours(writer, rows, estimator[-1])
    elif isinstance(estimator, CalibratedClassifierCV) and _is_machine(estimator):
        (calibrated,) = estimator.calibrated_classifiers_
        rows = _scaled(writer, calibrated.estimator)
        scores = _class_scores(writer, rows, calibrated.estimator[-1])
        given = _calibrated(writer, scores, calibrated.calibrators)
    else:
        return None
    width, count = estimator.n_features_in_, len(estimator.classes_)
    model = writer.model("head", [_value(ROWS, width)], [_value(given, count)])
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    return model


def _are_neighbours(pipeline: Pipeline) -> bool:
    last = pipeline[-1]
    return (
        isinstance(last, KNeighborsClassifier)
        and last.weights == "uniform"
        and last.effective_metric_ == "euclidean"
        and _can_scale(pipeline)
    )


def _is_machine(estimator: CalibratedClassifierCV) -> bool:
    calibrated = estimator.calibrated_classifiers_
    inner = calibrated[0].estimator
    return (
        len(calibrated) == 1
        and calibrated[0].method == "sigmoid"
        and isinstance(inner, Pipeline)
        and isinstance(inner[-1], SVC)
        and (inner[-1].kernel, inner[-1].decision_function_shape, inner[-1].break_ties) == ("rbf", "ovr", False)
        and _can_scale(inner)
    )


def _can_scale(pipeline: Pipeline) -> bool:
    return all(
        isinstance(step, StandardScaler) or (isinstance(step, Normalizer) and step.norm == "l2")
        for _, step in pipeline.steps[:-1]
    )


def _scaled(writer: _Writer, pipeline: Pipeline) -> str:
    rows = ROWS
    for number, (_, step) in enumerate(pipeline.steps[:-1]):
        if isinstance(step, Normalizer):
            length = writer.node("Sqrt", [_squares(writer, rows, step.n_features_in_, f"square{number}")], f"l{number}")
            one = writer.constant("one", np.ones(1))
            zero = writer.node("Equal", [length, writer.constant("zero", np.zeros(1))], f"zero{number}")
            length = writer.node("Where", [zero, one, length], f"length{number}")
            rows = writer.node("Div", [rows, length], f"normal{number}")
            continue
        if step.with_mean:
            rows = writer.node("Sub", [rows, writer.constant(f"mean{number}", _wide(step.mean_))], f"centred{number}")
        if step.with_std:
            rows = writer.node("Div", [rows, writer.constant(f"scale{number}", _wide(step.scale_))], f"scaled{number}")
    return rows


def _squares(writer: _Writer, rows: str, width: int, name: str) -> str:
    """Adds the squared length of each row, (N, 1)."""
    square = writer.node("Mul", [rows, rows], f"{name}.each")
    return writer.node("MatMul", [square, writer.constant(f"ones{width}", np.ones((width, 1)))], name)


def _distances(writer: _Writer, rows: str, stored: NDArray[np.float64]) -> str:
    """Adds the squared distance of each row from each stored row, (N, S)."""
    own = _squares(writer, rows, stored.shape[1], "own")
    crossed = writer.node("MatMul", [rows, writer.constant("stored", -2 * stored.T)], "crossed")
    others = writer.constant("others", (stored**2).sum(axis=1)[np.newaxis])
    total = writer.node("Add", [writer.node("Add", [crossed, others], "partial"), own], "total")
    return writer.node("Max", [total, writer.constant("least", np.zeros(1))], "distances")


def _neighbours(writer: _Writer, rows: str, neighbours: Any) -> str:
    """Adds the share of each class among the nearest stored rows."""
    count, k = len(neighbours.classes_), neighbours.n_neighbors
    distances = _distances(writer, rows, _wide(neighbours._fit_X))
    most = writer.constant("k", np.array([k]))
    nearest = writer.least(distances, most)
    shares = writer.constant("shares", np.eye(count)[neighbours._y] / k)
    votes = writer.node("Gather", [shares, nearest], "votes")
    turned = writer.node("Transpose", [votes], "turned", perm=[0, 2, 1])
    summed = writer.node("MatMul", [turned, writer.constant("each", np.ones((k, 1)))], "summed")
    return writer.node("Reshape", [summed, writer.constant("shape", np.array([-1, count]))], "probabilities")


def _class_scores(writer: _Writer, rows: str, machine: Any) -> str:
    """Adds what scikit-learn's ``decision_function`` gives: (N, 1) for two classes, else a score per class (N, C)."""
    distances = _distances(writer, rows, _wide(machine.support_vectors_))
    rate = writer.constant("rate", np.array([-machine._gamma]))
    kernel = writer.node("Exp", [writer.node("Mul", [distances, rate], "exponents")], "kernel")
    slopes, offsets = _pairwise(machine)
    summed = writer.node("MatMul", [kernel, writer.constant("slopes", slopes.T)], "pairs.summed")
    pairs = writer.node("Add", [summed, writer.constant("offsets", offsets)], "pairs")
    if len(machine.classes_) == 2:
        return pairs
    return _votes(writer, pairs, len(machine.classes_))


def _pairwise(machine: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns for each pair of classes its weights on the support vectors, (P, S), and its offset, (P).

    libsvm keeps for each support vector one weight against each of the other classes.
    """
    weights, counts = _wide(machine.dual_coef_), machine.n_support_
    if len(counts) == 2:
        return weights, _wide(machine.intercept_)
    ends = np.cumsum(counts)
    parts = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    slopes = np.zeros((len(counts) * (len(counts) - 1) // 2, weights.shape[1]))
    for row, (first, second) in enumerate(combinations(range(len(counts)), 2)):
        slopes[row, parts[first]] = weights[second - 1, parts[first]]
        slopes[row, parts[second]] = weights[first, parts[second]]
    return slopes, _wide(machine.intercept_)


def _votes(writer: _Writer, pairs: str, count: int) -> str:
    """Adds one score per class: the pairs it won, and a fraction that orders those that won as many."""
    members = list(combinations(range(count), 2))
    firsts = np.array([np.eye(count)[first] for first, _ in members])
    seconds = np.array([np.eye(count)[second] for _, second in members])
    lost = writer.node("Less", [pairs, writer.constant("zero", np.zeros(1))], "lost")
    lost = writer.node("Cast", [lost], "lost.number", to=TensorProto.DOUBLE)
    moved = writer.node("MatMul", [lost, writer.constant("moves", seconds - firsts)], "votes.moved")
    votes = writer.node("Add", [moved, writer.constant("won", firsts.sum(axis=0))], "votes")
    sums = writer.node("MatMul", [pairs, writer.constant("signs", firsts - seconds)], "confidence")
    size = writer.node("Add", [writer.node("Abs", [sums], "size"), writer.constant("one", np.ones(1))], "size.more")
    size = writer.node("Mul", [size, writer.constant("three", np.full(1, 3.0))], "size.most")
    return writer.node("Add", [votes, writer.node("Div", [sums, size], "fraction")], "scores")


def _calibrated(writer: _Writer, scores: str, calibrators: Any) -> str:
    """Adds the sigmoid of each class's score, divided by their sum; of two classes the second has the sigmoid."""
    slopes = writer.constant("sigmoid.slopes", -np.array([_wide(c.a_) for c in calibrators]))
    offsets = writer.constant("sigmoid.offsets", -np.array([_wide(c.b_) for c in calibrators]))
    raised = writer.node("Add", [writer.node("Mul", [scores, slopes], "sigmoid.scaled"), offsets], "sigmoid.raised")
    chances = writer.node("Sigmoid", [raised], "chances")
    if len(calibrators) == 1:
        other = writer.node("Sub", [writer.constant("certain", np.ones(1)), chances], "chances.other")
        return writer.node("Concat", [other, chances], "probabilities", axis=1)
    count = len(calibrators)
    total = writer.node("MatMul", [chances, writer.constant("all", np.ones((count, count)))], "chances.total")
    return writer.node("Div", [chances, total], "probabilities")


def _wide(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, np.float64)


def _value(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["N", width])
