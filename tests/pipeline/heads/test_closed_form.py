"""The closed-form heads equal scikit-learn's, and their leave-one-out equals refitting without each row."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

from penult.errors import HeadError
from penult.pipeline.heads.estimators.centroid import NearestMean
from penult.pipeline.heads.estimators.lda import Metric, ShrunkenDiscriminant
from penult.pipeline.heads.estimators.lda import _left_out_scores as left_out_by_lda
from penult.pipeline.heads.estimators.linear_svm import LinearSVCPath
from penult.pipeline.heads.estimators.ridge import RidgePath
from penult.pipeline.heads.estimators.ridge import _left_out_scores as left_out_by_ridge
from penult.pipeline.heads.numerics import basis as rotation_module
from penult.pipeline.heads.numerics.basis import Basis, RotatedRows
from penult.pipeline.heads.numerics.linear import LinearHead, choose_temperature, mean_log_loss

SHAPES = [(300, 20, 4), (60, 150, 3), (200, 30, 2)]
Data = tuple[NDArray[np.float32], NDArray[np.intp]]


def drawn(n: int, width: int, n_classes: int, seed: int = 0, apart: float = 0.7) -> Data:
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(n_classes).repeat(2), rng.integers(0, n_classes, n - 2 * n_classes)])
    mixed = rng.normal(size=(width, width)) * np.arange(1, width + 1) ** -0.5
    X = rng.normal(size=(n, width)) @ mixed + apart * rng.normal(size=(n_classes, width))[y]
    return X.astype(np.float32), y


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [0.1, 30.0])
def test_ridge_equals_scikit_learns_on_class_indicators(shape: tuple[int, int, int], alpha: float) -> None:
    X, y = drawn(*shape)
    head = RidgePath(alpha=alpha).fit(X, y)
    Z = StandardScaler().fit_transform(X.astype(float))
    plain = Ridge(alpha=alpha).fit(Z, np.eye(shape[2])[y])
    assert np.allclose((X @ head.coef_.T + head.intercept_) / head.temperature_, plain.predict(Z), atol=2e-4)
    assert head.alpha_ == pytest.approx(alpha)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shrinkage", [0.05, 0.5, 1.0])
def test_lda_equals_scikit_learns(shape: tuple[int, int, int], shrinkage: float) -> None:
    X, y = drawn(*shape)
    head = ShrunkenDiscriminant(shrinkage=shrinkage).fit(X, y)
    Z = StandardScaler().fit_transform(X.astype(float))
    plain = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(Z, y)
    scores = plain.decision_function(Z)
    ours = head.decision_function(X.astype(float)) / head.temperature_
    if shape[2] > 2:
        scores, ours = scores - scores.mean(axis=1, keepdims=True), ours - ours.mean(axis=1, keepdims=True)
    assert np.allclose(ours, scores, rtol=1e-4, atol=1e-4 * np.abs(scores).max())
    assert np.array_equal(head.predict(X), plain.predict(Z))


def test_the_nearest_mean_equals_scikit_learns_nearest_centroid() -> None:
    X, y = drawn(300, 20, 4)
    Z = StandardScaler().fit_transform(X)
    assert np.array_equal(NearestMean().fit(X, y).predict(X), NearestCentroid().fit(Z, y).predict(Z))


def test_leave_one_out_of_ridge_equals_refitting() -> None:
    X, y = drawn(60, 12, 3)
    rotation = RotatedRows.of(X, y, None)
    penalty = 0.2
    model = rotation.shares[:, None] * rotation.centres / (rotation.basis.spread + penalty)
    scores_without = left_out_by_ridge(rotation, np.array([penalty]), [model], np.arange(60))[0]
    Z = StandardScaler().fit_transform(X.astype(float))
    for row in range(0, 60, 7):
        rest = np.arange(60) != row
        plain = Ridge(alpha=penalty * 60).fit(Z[rest], np.eye(3)[y[rest]])
        assert np.allclose(scores_without[row], plain.predict(Z[row : row + 1])[0], atol=1e-4)


def test_leave_one_out_of_lda_equals_refitting() -> None:
    X, y = drawn(80, 10, 3)
    rotation = RotatedRows.of(X, y, None)
    scores_without = left_out_by_lda(rotation, [Metric.of(rotation, 0.1)], np.arange(80))[0]
    Z = StandardScaler().fit_transform(X.astype(float))
    for row in range(0, 80, 7):
        rest = np.arange(80) != row
        plain = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(Z[rest], y[rest])
        scores = plain.decision_function(Z[row : row + 1])[0]
        assert np.allclose(
            scores_without[row] - scores_without[row].mean(), scores - scores.mean(), atol=0.06 * np.abs(scores).max()
        )


@pytest.mark.parametrize("kind", [RidgePath, ShrunkenDiscriminant, NearestMean, LinearSVCPath])
def test_the_chosen_settings_give_calibrated_probabilities_on_new_rows(kind: type[LinearHead]) -> None:
    X, y = drawn(1500, 30, 3, apart=0.9)
    head = kind().fit(X[:700], y[:700])
    probabilities = head.predict_proba(X[700:])
    sure, right = probabilities.max(axis=1).mean(), np.mean(probabilities.argmax(axis=1) == y[700:])
    assert right > 0.5
    assert abs(sure - right) < 0.06


@pytest.mark.parametrize("kind", [RidgePath, ShrunkenDiscriminant])
def test_many_classes_choose_parameters_on_a_sample(
    kind: type[RidgePath] | type[ShrunkenDiscriminant], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = drawn(4000, 20, 12, apart=0.3)
    everything = kind().fit(X, y)
    monkeypatch.setattr(rotation_module, "MOST_SCORES", 12 * 12 * 2100)
    some = kind().fit(X, y)
    assert not np.array_equal(some.path_, everything.path_)
    assert np.allclose(some.path_[:, 1], everything.path_[:, 1], rtol=0.05)
    assert np.abs(some.predict_proba(X) - everything.predict_proba(X)).max() < 0.1


def test_more_features_than_images_choose_more_shrinkage() -> None:
    few, many = (ShrunkenDiscriminant().fit(*drawn(n, 60, 3)) for n in (40, 4000))
    assert few.shrinkage_ > many.shrinkage_


@pytest.mark.parametrize("kind", [RidgePath, ShrunkenDiscriminant])
def test_a_known_basis_changes_nothing(kind: type[RidgePath] | type[ShrunkenDiscriminant]) -> None:
    X, y = drawn(300, 20, 4)
    assert np.array_equal(kind().fit(X, y).coef_, kind().fit(X, y, basis=Basis.of(X)).coef_)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (RidgePath(alpha=0), "alpha is 0"),
        (ShrunkenDiscriminant(shrinkage=2), "shrinkage is 2"),
        (LinearSVCPath(C=-1), "C is -1"),
        (RidgePath(class_weight="heavy"), "class_weight is 'heavy'"),
    ],
)
def test_invalid_parameters_raise_an_error(head: LinearHead, message: str) -> None:
    with pytest.raises(HeadError, match=message):
        head.fit(*drawn(60, 5, 2))


def test_the_temperature_has_the_lowest_log_loss() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 3000)
    scores = (rng.normal(size=(3000, 4)) + np.eye(4)[y]) * 7
    factor, loss = choose_temperature(scores, y)
    assert factor == pytest.approx(1 / 7, rel=0.15)
    assert all(loss <= mean_log_loss(other * scores, y) + 1e-9 for other in factor * np.array([0.8, 0.97, 1.03, 1.3]))


def test_uninformative_scores_get_a_temperature_near_zero() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 4000)
    factor, loss = choose_temperature(-np.eye(3)[y] + 0.1 * rng.normal(size=(4000, 3)), y)
    assert factor < 1e-3
    assert loss == pytest.approx(np.log(3), abs=1e-3)
