"""Writes a fitted head as an ONNX graph: linear heads directly, all others with skl2onnx and onnxmltools."""

import warnings

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from penult.errors import HeadError
from penult.exporters.graph.graph_writer import prune
from penult.pipeline.heads.estimators.boosted import BoostedClassifier
from penult.pipeline.models.fusion import FEATURES, PROBABILITIES
from penult.pipeline.models.neighbour_graph import distance_graph

__all__ = ["PRECISIONS", "converted_graph", "linear_graph"]

PRECISIONS = ("float64", "float32")
"""Precisions for converted graphs, closest to the head first; not all converters support float64."""

LONGEST_REASON = 160  # some converters print all coefficients

ML_OPSET = 3
IR_VERSION = 8

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def linear_graph(weights: NDArray[np.floating], offsets: NDArray[np.floating], opset: int) -> onnx.ModelProto:
    """Returns the graph of softmax(features @ weights.T + offsets), weights (C, D), computed in float64."""
    if len(weights) == 1:  # two classes in scikit-learn: the score of the second, the first has score 0
        weights, offsets = np.vstack([np.zeros_like(weights), weights]), np.append(np.zeros_like(offsets), offsets)
    count, width = weights.shape
    nodes = [
        helper.make_node("Cast", [FEATURES], ["wide"], name="wide", to=DOUBLE),
        helper.make_node("Gemm", ["wide", "weights", "offsets"], ["scores"], name="scores", transB=1),
        helper.make_node("Softmax", ["scores"], ["shares"], name="shares", axis=1),
        helper.make_node("Cast", ["shares"], [PROBABILITIES], name="leave", to=FLOAT),
    ]
    constants = [
        numpy_helper.from_array(np.ascontiguousarray(weights, np.float64), "weights"),
        numpy_helper.from_array(np.ascontiguousarray(offsets, np.float64), "offsets"),
    ]
    graph = helper.make_graph(nodes, "head", [_value(FEATURES, width)], [_value(PROBABILITIES, count)], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)


def converted_graph(estimator: BaseEstimator, width: int, opset: int, precision: str) -> onnx.ModelProto:
    """Returns the graph of a fitted estimator on ``width`` features in one of `PRECISIONS`."""
    try:
        model = distance_graph(estimator, opset) or _convert(_plain(estimator), width, opset, precision)
        return _enclosed(model, width)
    except Exception as error:
        raise HeadError(
            f"An estimator of type {type(estimator).__name__} cannot be written as ONNX: {_first_line(error)}",
            expected="an estimator that skl2onnx or onnxmltools converts",
            remedy="bundle another kind of head, or predict with the head and its store",
        ) from error


def _convert(estimator: BaseEstimator, width: int, opset: int, precision: str) -> onnx.ModelProto:
    from skl2onnx import __max_supported_opset__, convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    _register_lightgbm()
    kind = DoubleTensorType if precision == "float64" else FloatTensorType
    gives_classes = hasattr(estimator, "predict_proba")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # converters warn about their own deprecated calls
        model: onnx.ModelProto = convert_sklearn(
            estimator,
            initial_types=[(FEATURES, kind([None, width]))],
            target_opset={"": min(opset, __max_supported_opset__), "ai.onnx.ml": ML_OPSET},
            options={"zipmap": False} if gives_classes else None,
        )
    return model


def _plain(estimator: BaseEstimator) -> BaseEstimator:
    """Returns the estimator in a form that the converters support."""
    from lightgbm import LGBMClassifier

    if isinstance(estimator, BoostedClassifier):
        estimator = estimator.booster_
    if isinstance(estimator, LGBMClassifier):
        return _with_float32_thresholds(estimator)
    if isinstance(estimator, Pipeline):
        return Pipeline([*estimator.steps[:-1], (estimator.steps[-1][0], _plain(estimator[-1]))])
    return estimator


def _with_float32_thresholds(trees: BaseEstimator) -> BaseEstimator:
    """Returns LightGBM's trees with each threshold rounded down to float32.

    For every float32 x, x <= t is equivalent to x <= the largest float32 not above t. The converter would round to
    nearest, and a row equal to a threshold that was rounded up would take the wrong branch.
    """
    from copy import copy

    from lightgbm import Booster

    lines = trees.booster_.model_to_string().split("\n")
    for number, line in enumerate(lines):
        if line.startswith("threshold="):
            values = np.array(line.removeprefix("threshold=").split(), np.float64)
            lines[number] = "threshold=" + " ".join(f"{value:.17g}" for value in _floored(values))
        elif line.startswith("tree_sizes="):  # wrong after the change; without sizes LightGBM finds the trees itself
            lines[number] = ""
    rounded = copy(trees)
    rounded._Booster = Booster(model_str="\n".join(lines))
    return rounded


def _floored(values: NDArray[np.float64]) -> NDArray[np.float64]:
    nearest = values.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest > values, below, nearest).astype(np.float64)


def _enclosed(converted: onnx.ModelProto, width: int) -> onnx.ModelProto:
    """Returns the graph with float32 features and probabilities, and without the converter's label output."""
    model = onnx.compose.add_prefix(prune(converted, [converted.graph.output[-1].name]), "estimator/")
    graph, first, last = model.graph, model.graph.input[0], model.graph.output[0]
    count = last.type.tensor_type.shape.dim[1].dim_value
    kind = first.type.tensor_type.elem_type
    enter = helper.make_node("Cast", [FEATURES], [first.name], name="enter", to=kind)
    leave = helper.make_node("Cast", [last.name], [PROBABILITIES], name="leave", to=FLOAT)
    nodes = [enter, *graph.node, leave]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.input.append(_value(FEATURES, width))
    graph.output.append(_value(PROBABILITIES, count))
    return model


def _value(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, FLOAT, ["N", width])


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]} …"


def _register_lightgbm() -> None:
    """Registers the converter of LightGBM's classifier with skl2onnx; registering it again changes nothing."""
    from lightgbm import LGBMClassifier
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

    update_registered_converter(
        LGBMClassifier,
        "LightGbmLGBMClassifier",
        calculate_linear_classifier_output_shapes,
        convert_lightgbm,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"], "raw_scores": [True, False]},
    )
