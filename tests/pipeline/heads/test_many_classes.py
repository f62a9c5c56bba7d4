"""Logistic regression with a hundred classes or more chooses C on some of them, and ends near the optimum."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from penult.pipeline.heads.logistic.path import MANY_CLASSES, LogisticPath
from penult.pipeline.heads.logistic.penalised import Penalised
from penult.pipeline.heads.numerics.basis import Basis

CLASSES, WIDTH = 110, 30


@pytest.fixture(scope="module")
def rows() -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]]:
    """Overlapping classes, some of them rare: 12 rows each on average, and as many for testing."""
    rng = np.random.default_rng(0)
    share = (1.0 + np.arange(CLASSES)) ** -0.4
    y = rng.choice(CLASSES, 24 * CLASSES, p=share / share.sum())
    y[: 2 * CLASSES] = np.tile(np.arange(CLASSES), 2)
    spread = np.arange(1, WIDTH + 1) ** -0.5
    X = ((rng.normal(size=(len(y), WIDTH)) + rng.normal(size=(CLASSES, WIDTH))[y]) * spread).astype(np.float32)
    half = len(y) // 2
    return X[:half], y[:half], X[half:], y[half:]


def log_loss(head: LogisticPath, X: NDArray[np.float32], y: NDArray[np.intp]) -> float:
    return float(-np.log(head.predict_proba(X)[np.arange(len(y)), y]).mean())


def test_c_chosen_on_some_classes_is_best_for_all(
    rows: tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]],
) -> None:
    X, y, X_test, y_test = rows
    head = LogisticPath().fit(X, y)
    assert np.isclose(head.path_[:, 0], head.C_).any()
    others = [
        log_loss(LogisticPath(C=head.C_ * 10**power).fit(X, y), X_test, y_test) for power in (-1, -0.5, 0, 0.5, 1)
    ]
    assert others[2] == pytest.approx(log_loss(head, X_test, y_test), rel=1e-6)
    assert others[2] <= 1.02 * min(others)
    assert min(others[0], others[4]) > 1.03 * min(others)  # so that a C chosen at random would not pass


def test_the_fit_is_near_scikit_learns_optimum(
    rows: tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]],
) -> None:
    X, y, X_test, y_test = rows
    head = LogisticPath(C=0.1).fit(X, y)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-8, max_iter=5000)).fit(X, y)
    ours, theirs = head.predict_proba(X_test), plain.predict_proba(X_test)
    assert np.mean(ours.argmax(axis=1) == theirs.argmax(axis=1)) > 0.98
    best = float(-np.log(theirs[np.arange(len(y_test)), y_test]).mean())
    assert log_loss(head, X_test, y_test) == pytest.approx(best, rel=5e-3)
    own = plain.predict_proba(X)[np.arange(len(y)), y]
    optimum = -np.log(own).mean() + (plain[1].coef_ ** 2).sum() / (2 * 0.1 * len(y))
    assert optimum * (1 - 1e-6) < head.objective_ < optimum * (1 + head.gap_)
    assert head.gap_ < 0.02


def test_the_choice_of_c_never_uses_only_classes_of_one_row() -> None:
    rng = np.random.default_rng(0)
    y = np.concatenate([np.arange(MANY_CLASSES + 50), np.repeat([3, 77], 90)])
    X = (rng.normal(size=(len(y), 10)) + 3 * rng.normal(size=(MANY_CLASSES + 50, 10))[y]).astype(np.float32)
    head = LogisticPath().fit(X, y)
    assert len(head.path_) > 2
    assert np.isfinite(head.path_).all()


def test_losses_of_well_separated_rows_keep_their_digits() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    X = (np.eye(3)[y] * 6 + rng.normal(size=(300, 3)) * 0.1).astype(np.float32)
    basis = Basis.of(X)
    problem = Penalised.of(X, y, basis, np.ones(3))
    model = np.column_stack(basis.from_raw(np.eye(3) * 4, np.zeros(3)))
    (result,) = problem.loss.evaluate(model[None], [None])
    scores = X.astype(np.float64) @ np.eye(3) * 4
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    others = probabilities.copy()
    others[np.arange(300), y] = 0
    losses = -np.log1p(-others.sum(axis=1))
    assert losses.mean() < 1e-9  # in float32, 1 plus this is 1
    assert result.loss == pytest.approx(losses.mean(), rel=1e-3)
    others[np.arange(300), y] = -others.sum(axis=1)
    assert np.allclose(result.gradient[:, -1], others.mean(axis=0), rtol=1e-3, atol=0)
