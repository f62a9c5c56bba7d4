"""The logistic path equals a plain float64 solver, and chooses C without looking at held-out rows."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from penult.errors import HeadError, InputError
from penult.pipeline.heads.logistic.fold_losses import columns_of_rows, sums_of_rows
from penult.pipeline.heads.logistic.path import LogisticPath
from penult.pipeline.heads.numerics.basis import Basis, moments_of
from penult.pipeline.heads.numerics.blocks import map_chunks
from penult.pipeline.heads.numerics.folds import assign_folds

Data = tuple[NDArray[np.float32], NDArray[np.intp]]


def embedded(n: int, width: int, n_classes: int, *, seed: int = 0, apart: float = 1.0) -> Data:
    """Returns rows like those of a network: non-negative and correlated, with variances over several decades."""
    rng = np.random.default_rng(seed)
    y = np.sort(rng.integers(0, n_classes, n))
    y[:n_classes] = np.arange(n_classes)
    spread = np.arange(1, width + 1) ** -0.7
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    centres = apart * rng.normal(size=(n_classes, width))
    raw = ((rng.normal(size=(n, width)) + centres[y]) * spread) @ turn
    return np.maximum(raw + 0.3, 0).astype(np.float32), y


def objective(
    X: NDArray[np.float32],
    y: NDArray[np.intp],
    coef: NDArray[np.float64],
    b: NDArray[np.float64],
    C: float,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """Returns the mean loss in float64 of a model on raw features, penalised on standardised features."""
    wide = X.astype(np.float64)
    scale = wide.std(axis=0)
    scores = wide @ coef.T + b
    scores -= scores.max(axis=1, keepdims=True)
    loss = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y]
    weights = np.ones(len(y)) if weights is None else weights
    doubling = 2 if len(coef) == 2 else 1
    penalty = doubling / (2 * C * weights.sum()) * ((coef * np.where(scale > 0, scale, 1)) ** 2).sum()
    return float((weights * loss).sum() / weights.sum() + penalty)


def reference(
    X: NDArray[np.float32], y: NDArray[np.intp], C: float, class_weight: str | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns scikit-learn's optimum in float64 on raw features, with a row per class."""
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=20000, class_weight=class_weight)
    )
    model.fit(X.astype(np.float64), y)
    coef = model[1].coef_ / model[0].scale_
    b = model[1].intercept_ - coef @ model[0].mean_
    return (np.vstack([-coef, coef]) / 2, np.concatenate([-b, b]) / 2) if len(coef) == 1 else (coef, b)


SHAPES = {
    "tall": (600, 40, 4),
    "wide": (60, 200, 4),
    "two classes": (300, 30, 2),
    "square": (100, 100, 3),
    "many": (600, 30, 25),
}


@pytest.mark.parametrize("C", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_objective_equals_the_float64_optimum(shape: tuple[int, int, int], C: float) -> None:
    X, y = embedded(*shape)
    head = LogisticPath(C=C).fit(X, y)
    best = objective(X, y, *reference(X, y, C), C)
    assert objective(X, y, head.coef_, head.intercept_, C) <= best * (1 + 1e-4)
    assert head.objective_ == pytest.approx(best, rel=1e-4)
    assert np.isclose(head.C_, C)


def test_probabilities_and_labels_agree_with_scikit_learn() -> None:
    features, y = load_digits(return_X_y=True)
    X = features.astype(np.float32)
    head = LogisticPath(C=0.1).fit(X[:1200], y[:1200])
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-8, max_iter=5000))
    plain.fit(features[:1200], y[:1200])
    assert np.abs(head.predict_proba(X[1200:]) - plain.predict_proba(features[1200:])).max() < 5e-3
    assert np.mean(head.predict(X[1200:]) == plain.predict(features[1200:])) > 0.995


def test_balanced_weights_equal_scikit_learns() -> None:
    X, y = embedded(500, 20, 3)
    y = np.minimum(y, 1) + (np.random.default_rng(0).random(500) < 0.1)
    head = LogisticPath(C=0.1, class_weight="balanced").fit(X, y)
    counts = np.bincount(y)
    weights = (len(y) / (3 * counts))[y]
    best = objective(X, y, *reference(X, y, 0.1, "balanced"), 0.1, weights)
    assert objective(X, y, head.coef_, head.intercept_, 0.1, weights) <= best * (1 + 1e-4)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_probabilities_with_balanced_weights_agree_with_scikit_learn(n_classes: int) -> None:
    features, y = load_digits(n_class=n_classes, return_X_y=True)
    kept = (y > 0) | (np.random.default_rng(1).random(len(y)) < 0.15)  # zeros are rare
    features, y = features[kept], y[kept]
    head = LogisticPath(C=0.01, class_weight="balanced").fit(features[::2].astype(np.float32), y[::2])
    plain = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", tol=1e-10, max_iter=5000)
    )
    plain.fit(features[::2], y[::2])
    ours, theirs = head.predict_proba(features[1::2].astype(np.float32)), plain.predict_proba(features[1::2])
    assert np.abs(ours - theirs).max() < 2e-3
    assert np.mean(ours.argmax(axis=1) == theirs.argmax(axis=1)) > 0.995
    unweighted = LogisticPath(C=0.01).fit(features[::2].astype(np.float32), y[::2])
    assert np.abs(unweighted.predict_proba(features[1::2].astype(np.float32)) - theirs).max() > 0.02


def test_the_chosen_c_has_the_lowest_held_out_loss_of_the_path() -> None:
    X, y = embedded(400, 60, 3, apart=0.5)
    head = LogisticPath().fit(X, y)
    chosen = head.path_[np.isclose(head.path_[:, 0], head.C_), 1]
    assert chosen <= head.path_[:, 1].min() * (1 + 1e-3) + 4e-4
    assert np.all(np.diff(np.log10(head.path_[:, 0])) == pytest.approx(0.5))


def test_the_held_out_loss_of_the_path_equals_separate_fits() -> None:
    X, y = embedded(300, 30, 3)
    head = LogisticPath(n_folds=3).fit(X, y)
    folds = assign_folds(y, None, n_folds=3, seed=0)
    step = len(head.path_) // 2
    C, loss = head.path_[step]
    mean, scale = X.mean(axis=0, dtype=float), X.std(axis=0, dtype=float)
    Z = (X - mean) / scale
    losses = []
    for fold in range(3):
        inside = folds != fold
        # The path's C counts all rows; a fold's mean loss is over its own.
        plain = LogisticRegression(C=C * len(y) / inside.sum(), tol=1e-8, max_iter=5000).fit(Z[inside], y[inside])
        probabilities = plain.predict_proba(Z[~inside])
        losses += list(-np.log(probabilities[np.arange((~inside).sum()), y[~inside]]))
    assert loss == pytest.approx(np.mean(losses), rel=1e-2)


def test_noise_labels_choose_a_strong_penalty_and_clear_ones_a_weak_one() -> None:
    X, y = embedded(300, 40, 3, apart=3.0)
    noise = np.random.default_rng(1).permutation(y)
    assert LogisticPath().fit(X, y).C_ > 30 * LogisticPath().fit(X, noise).C_


def test_many_rows_choose_c_on_a_sample_first() -> None:
    X, y = embedded(12_000, 40, 3, apart=0.3)
    head = LogisticPath().fit(X, y)
    assert len(head.path_) <= 5
    losses = {}
    folds = assign_folds(y, None, n_folds=5, seed=0)
    inside = folds != 0
    for factor in (0.01, 0.1, 1, 10, 100):
        alone = LogisticPath(C=head.C_ * factor).fit(X[inside], y[inside])
        probabilities = alone.predict_proba(X[~inside])
        losses[factor] = -np.log(probabilities[np.arange((~inside).sum()), y[~inside]]).mean()
    assert losses[1] <= min(losses.values()) * 1.01


def test_separable_classes_converge() -> None:
    X, y = embedded(200, 50, 2, apart=8.0)
    head = LogisticPath().fit(X, y)
    assert head.n_iter_ < 1500
    assert np.array_equal(head.predict(X), y)


def test_a_known_basis_changes_nothing() -> None:
    X, y = embedded(500, 40, 3)
    alone = LogisticPath().fit(X, y)
    given = LogisticPath().fit(X, y, basis=Basis.of_moments(moments_of(X)))
    assert np.array_equal(alone.coef_, given.coef_)


def test_the_number_of_threads_changes_nothing() -> None:
    X, y = embedded(5000, 20, 3)
    one, four = (LogisticPath(n_jobs=jobs).fit(X, y) for jobs in (1, 4))
    assert np.array_equal(one.coef_, four.coef_)
    assert one.C_ == four.C_


def test_the_order_of_features_and_their_units_do_not_matter() -> None:
    X, y = embedded(300, 30, 3)
    plain = LogisticPath().fit(X, y).predict_proba(X)
    units = 10.0 ** np.random.default_rng(0).integers(-3, 4, 30)
    changed = (X * units + 5 * units).astype(np.float64)
    assert np.abs(LogisticPath().fit(changed, y).predict_proba(changed) - plain).max() < 2e-3


def test_constant_and_repeated_features_do_no_harm() -> None:
    X, y = embedded(200, 10, 3)
    padded = np.concatenate([X, np.full((200, 2), 7.0, np.float32), X[:, :3]], axis=1)
    head = LogisticPath(C=1.0).fit(padded, y)
    assert np.isfinite(head.coef_).all()
    assert head.score(padded, y) >= LogisticPath(C=1.0).fit(X, y).score(X, y) - 0.02


def test_float16_features_give_what_their_float32_values_give() -> None:
    X, y = embedded(300, 30, 3)
    half = X.astype(np.float16)
    assert np.allclose(
        LogisticPath().fit(half, y).coef_, LogisticPath().fit(half.astype(np.float32), y).coef_, rtol=1e-3, atol=1e-4
    )


def test_a_negative_c_raises_an_error() -> None:
    X, y = embedded(50, 5, 2)
    with pytest.raises(HeadError, match=r"C is -1.*a finite number above 0"):
        LogisticPath(C=-1).fit(X, y)


def test_one_class_raises_an_error() -> None:
    with pytest.raises(HeadError, match="have one class, 'cat'"):
        LogisticPath().fit(np.eye(4), ["cat"] * 4)


def test_classes_of_one_row_each_need_a_c() -> None:
    with pytest.raises(HeadError, match=r"each of the 4 classes has one row.*fix C"):
        LogisticPath().fit(np.eye(4), np.arange(4))
    assert LogisticPath(C=1.0).fit(np.eye(4), np.arange(4)).score(np.eye(4), np.arange(4)) == 1


def test_folds_are_stratified_and_leave_singletons_in() -> None:
    codes = np.repeat([0, 1, 2], [50, 5, 1])
    folds = assign_folds(codes, None, n_folds=5, seed=0)
    assert [np.bincount(folds[codes == 0], minlength=5).tolist(), sorted(folds[codes == 1])] == [
        [10] * 5,
        [0, 1, 2, 3, 4],
    ]
    assert folds[codes == 2] == [-1]


def test_a_group_is_in_one_fold() -> None:
    codes = np.tile([0, 1], 30)
    groups = np.repeat(np.arange(12), 5)
    folds = assign_folds(codes, groups, n_folds=4, seed=0)
    assert all(len(set(folds[groups == g])) == 1 for g in range(12))
    assert len(set(folds)) == 4


def test_groups_prevent_leakage_in_the_choice_of_c() -> None:
    rng = np.random.default_rng(0)
    seeds, labels = rng.normal(size=(40, 60)), rng.integers(0, 2, 40)
    groups = np.repeat(np.arange(40), 8)
    X = (seeds[groups] + 0.05 * rng.normal(size=(320, 60))).astype(np.float32)
    y = labels[groups]
    leaky, honest = LogisticPath().fit(X, y), LogisticPath().fit(X, y, groups=groups)
    assert leaky.path_[:, 1].min() < 0.1
    assert honest.path_[:, 1].min() > 0.5
    assert leaky.C_ > 10 * honest.C_


@pytest.mark.parametrize(("groups", "message"), [([0] * 10, "in one group"), ([0] * 9, "9 groups for 10 rows")])
def test_unusable_groups_raise_an_error(groups: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        assign_folds(np.tile([0, 1], 5), groups, n_folds=3, seed=0)


def test_moments_can_be_joined_without_the_rows() -> None:
    X, _ = embedded(700, 20, 3)
    whole, joined = moments_of(X), moments_of(X[:500]).joined(moments_of(X[500:]))
    assert joined.n == 700
    assert np.allclose(joined.mean, whole.mean, rtol=1e-12)
    assert np.allclose(joined.scatter, whole.scatter, rtol=1e-10, atol=1e-10)
    assert np.allclose(whole.scatter / 700, np.cov(X.T.astype(float), bias=True), atol=1e-12)


def test_moments_do_not_cancel_far_from_zero() -> None:
    X = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float64) + 1e6
    assert np.allclose(moments_of(X).scatter / 2000, np.cov(X.T, bias=True), rtol=1e-6)


def test_chunks_cover_every_row_once() -> None:
    for rows in (1, 2047, 2048, 2049, 80_000):
        parts = map_chunks(rows, lambda blocks: [i for b in blocks for i in range(b.start, b.stop)], threads=2)
        assert [i for part in parts for i in part] == list(range(rows))


@pytest.mark.parametrize("n", [1, 31, 32, 33, 255, 300, 2048])
@pytest.mark.parametrize("width", [3, 64, 1280, 7000])
@pytest.mark.parametrize("n_columns", [1, 2, 10, 31, 70])
def test_products_of_row_groups_equal_plain_products(n: int, width: int, n_columns: int) -> None:
    rng = np.random.default_rng(n)
    rows = rng.normal(size=(n, width)).astype(np.float32)
    slopes = rng.normal(size=(width, n_columns)).astype(np.float32)
    weights = rng.normal(size=(n_columns, n)).astype(np.float32)
    scores, sums = columns_of_rows(rows, slopes), sums_of_rows(weights, rows)
    assert np.allclose(scores, (rows.astype(float) @ slopes).T, atol=1e-5 * width**0.5 * 10)
    assert np.allclose(sums, weights.astype(float) @ rows, atol=1e-5 * n**0.5 * 10)
    assert scores.flags.c_contiguous
