"""The graphs of heads equal scikit-learn and LightGBM on random features."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC

from penult.pipeline.models.head_graph import _floored, _with_float32_thresholds, converted_graph, linear_graph
from penult.pipeline.models.neighbour_graph import distance_graph

WIDTH, OPSET = 10, 17


def run(graph: onnx.ModelProto, features: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    probabilities: np.ndarray = session.run(["probabilities"], {"features": features})[0]
    return probabilities


def drawn(n_classes: int, rows: int = 90, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = np.arange(rows) % n_classes
    features = rng.normal(size=(rows, WIDTH)) + rng.normal(size=(n_classes, WIDTH))[codes]
    return features.astype(np.float16).astype(np.float32), codes


def svc(kind: Any = SVC, **options: Any) -> BaseEstimator:
    pipeline = make_pipeline(StandardScaler(), kind(**options))
    return CalibratedClassifierCV(pipeline, cv=3, ensemble=False)


ESTIMATORS: dict[str, BaseEstimator] = {
    "svc": svc(C=3.0),
    "weighted svc": svc(class_weight="balanced", gamma=0.05),
    "linear svc, by the converters": svc(kernel="linear"),
    "neighbours by angle": make_pipeline(Normalizer(), KNeighborsClassifier(5)),
    "neighbours by distance": make_pipeline(StandardScaler(with_std=False), KNeighborsClassifier(4)),
    "one neighbour": make_pipeline(StandardScaler(with_mean=False), KNeighborsClassifier(1)),
    "neighbours by blocks, by the converters": make_pipeline(StandardScaler(), KNeighborsClassifier(5, p=1)),
    "scaled regression, by the converters": make_pipeline(StandardScaler(), LogisticRegression()),
    "forest, by the converters": RandomForestClassifier(40, random_state=0),
}


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_graph_equals_its_estimator(name: str, n_classes: int) -> None:
    if name.startswith("linear svc") and n_classes == 2:
        pytest.skip("skl2onnx swaps the two classes of a calibrated SVC; bundle rejects such a graph")
    features, codes = drawn(n_classes)
    estimator = ESTIMATORS[name].fit(features[:60], codes[:60])
    given = run(converted_graph(estimator, WIDTH, OPSET, "float64"), features)
    expected = estimator.predict_proba(features.astype(np.float64))
    np.testing.assert_allclose(given, expected, rtol=0, atol=2e-6)
    assert given.shape == (90, n_classes)


def test_neighbour_and_kernel_heads_do_not_use_the_converters() -> None:
    features, codes = drawn(3)
    for name, estimator in ESTIMATORS.items():
        written = distance_graph(estimator.fit(features, codes), OPSET)
        assert (written is None) == ("by the converters" in name), name


def test_a_row_of_zeros_gets_probabilities() -> None:
    features, codes = drawn(3)
    estimator = make_pipeline(Normalizer(), KNeighborsClassifier(3)).fit(features, codes)
    zeros = np.zeros((1, WIDTH), np.float32)
    given = run(converted_graph(estimator, WIDTH, OPSET, "float64"), zeros)
    np.testing.assert_allclose(given, estimator.predict_proba(zeros.astype(np.float64)), atol=1e-6)


def test_a_linear_graph_is_exact_for_large_weights_that_nearly_cancel() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, WIDTH)) * 1e4
    features = (100 + rng.normal(size=(50, WIDTH)) * 1e-2).astype(np.float32)
    offsets = -weights @ features.mean(axis=0, dtype=np.float64)
    scores = features.astype(np.float64) @ weights.T + offsets
    expected = np.exp(scores - scores.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(run(linear_graph(weights, offsets, OPSET), features), expected, rtol=0, atol=1e-6)


def test_one_row_of_weights_scores_the_second_class() -> None:
    features, codes = drawn(2)
    model = LogisticRegression().fit(features, codes)
    given = run(linear_graph(model.coef_, model.intercept_, OPSET), features)
    np.testing.assert_allclose(given, model.predict_proba(features.astype(np.float64)), atol=1e-6)


@given(st.lists(st.floats(allow_nan=False, min_value=-1e30, max_value=1e30), min_size=1))
def test_a_threshold_rounded_down_splits_float32_numbers_equally(thresholds: list[float]) -> None:
    exact = np.array(thresholds)
    rounded = _floored(exact)
    assert (rounded == rounded.astype(np.float32)).all()
    near = exact.astype(np.float32)
    for numbers in (near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))):
        assert ((numbers <= exact) == (numbers <= rounded)).all()


def test_rows_on_a_threshold_take_the_same_branch_as_in_lightgbm() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(400, 4)).astype(np.float32)
    codes = (features[:, 0] + features[:, 1] > 0).astype(int)
    trees = LGBMClassifier(n_estimators=20, min_child_samples=2, verbose=-1, num_leaves=31).fit(features, codes)
    text = trees.booster_.model_to_string().split("\n")
    columns = np.array([word for line in text if line.startswith("split_feature=") for word in line[14:].split()], int)
    thresholds = np.array([word for line in text if line.startswith("threshold=") for word in line[10:].split()], float)
    # LightGBM treats values within 1e-35 of zero as zero, and some thresholds are there too.
    columns, thresholds = columns[np.abs(thresholds) > 1e-30], thresholds[np.abs(thresholds) > 1e-30]
    rows = np.zeros((len(columns), 4), np.float32)
    rows[np.arange(len(columns)), columns] = thresholds.astype(np.float32)
    assert (thresholds.astype(np.float32) > thresholds).any()  # some are rounded up
    expected = np.asarray(trees.predict_proba(rows))
    np.testing.assert_array_equal(_with_float32_thresholds(trees).predict_proba(rows), expected)
    given = run(converted_graph(trees, 4, OPSET, "float32"), rows)
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-6)
