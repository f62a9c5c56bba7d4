"""ONNX graphs of heads that compare a row with stored rows: nearest neighbours, and SVMs with an RBF kernel.

skl2onnx does this row by row or in float32, and swaps the two classes of a calibrated SVM. These graphs use one matrix
product in float64.
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

__all__ = ["distance_graph"]

ROWS = "rows"


class _Writer(GraphWriter):
    def smallest(self, values: str, count: str) -> str:
        """Adds the indices of the smallest ``count`` values of each row."""
        outputs = ["nearest.distances", "nearest"]
        self._nodes.append(helper.make_node("TopK", [values, count], outputs, name="nearest", largest=0))
        return "nearest"


def distance_graph(estimator: BaseEstimator, opset: int) -> onnx.ModelProto | None:
    """Returns the float64 graph from rows (N, D) to probabilities (N, C), or None for other estimators."""
    writer = _Writer()
    if isinstance(estimator, Pipeline) and _are_neighbours(estimator):
        rows = _scaled(writer, estimator)
        given = _neighbours(writer, rows, estimator[-1])
    elif isinstance(estimator, CalibratedClassifierCV) and _is_svc(estimator):
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


def _is_svc(estimator: CalibratedClassifierCV) -> bool:
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
    """Adds the squared distances between rows and stored rows, (N, S)."""
    own = _squares(writer, rows, stored.shape[1], "own")
    crossed = writer.node("MatMul", [rows, writer.constant("stored", -2 * stored.T)], "crossed")
    others = writer.constant("others", (stored**2).sum(axis=1)[np.newaxis])
    total = writer.node("Add", [writer.node("Add", [crossed, others], "partial"), own], "total")
    return writer.node("Max", [total, writer.constant("least", np.zeros(1))], "distances")


def _neighbours(writer: _Writer, rows: str, neighbours: Any) -> str:
    """Adds the share of each class among the nearest neighbours."""
    count, k = len(neighbours.classes_), neighbours.n_neighbors
    distances = _distances(writer, rows, _wide(neighbours._fit_X))
    most = writer.constant("k", np.array([k]))
    nearest = writer.smallest(distances, most)
    shares = writer.constant("shares", np.eye(count)[neighbours._y] / k)
    votes = writer.node("Gather", [shares, nearest], "votes")
    turned = writer.node("Transpose", [votes], "turned", perm=[0, 2, 1])
    summed = writer.node("MatMul", [turned, writer.constant("each", np.ones((k, 1)))], "summed")
    return writer.node("Reshape", [summed, writer.constant("shape", np.array([-1, count]))], "probabilities")


def _class_scores(writer: _Writer, rows: str, svc: Any) -> str:
    """Adds scikit-learn's ``decision_function``: (N, 1) for two classes, otherwise a score per class (N, C)."""
    distances = _distances(writer, rows, _wide(svc.support_vectors_))
    rate = writer.constant("rate", np.array([-svc._gamma]))
    kernel = writer.node("Exp", [writer.node("Mul", [distances, rate], "exponents")], "kernel")
    slopes, offsets = _pairwise(svc)
    summed = writer.node("MatMul", [kernel, writer.constant("slopes", slopes.T)], "pairs.summed")
    pairs = writer.node("Add", [summed, writer.constant("offsets", offsets)], "pairs")
    if len(svc.classes_) == 2:
        return pairs
    return _votes(writer, pairs, len(svc.classes_))


def _pairwise(svc: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the weights of each pair of classes on the support vectors, (P, S), and the offsets, (P).

    libsvm stores for each support vector one weight per other class.
    """
    weights, counts = _wide(svc.dual_coef_), svc.n_support_
    if len(counts) == 2:
        return weights, _wide(svc.intercept_)
    ends = np.cumsum(counts)
    parts = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    slopes = np.zeros((len(counts) * (len(counts) - 1) // 2, weights.shape[1]))
    for row, (first, second) in enumerate(combinations(range(len(counts)), 2)):
        slopes[row, parts[first]] = weights[second - 1, parts[first]]
        slopes[row, parts[second]] = weights[first, parts[second]]
    return slopes, _wide(svc.intercept_)


def _votes(writer: _Writer, pairs: str, count: int) -> str:
    """Adds one score per class: the number of pairs it won, plus a fraction that breaks ties."""
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
    """Adds the sigmoid of each class's score, divided by their sum; with two classes the sigmoid is the second's."""
    slopes = writer.constant("sigmoid.slopes", -np.array([_wide(c.a_) for c in calibrators]))
    offsets = writer.constant("sigmoid.offsets", -np.array([_wide(c.b_) for c in calibrators]))
    raised = writer.node("Add", [writer.node("Mul", [scores, slopes], "sigmoid.scaled"), offsets], "sigmoid.raised")
    calibrated = writer.node("Sigmoid", [raised], "calibrated")
    if len(calibrators) == 1:
        other = writer.node("Sub", [writer.constant("certain", np.ones(1)), calibrated], "calibrated.other")
        return writer.node("Concat", [other, calibrated], "probabilities", axis=1)
    count = len(calibrators)
    total = writer.node("MatMul", [calibrated, writer.constant("all", np.ones((count, count)))], "calibrated.total")
    return writer.node("Div", [calibrated, total], "probabilities")


def _wide(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, np.float64)


def _value(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["N", width])
