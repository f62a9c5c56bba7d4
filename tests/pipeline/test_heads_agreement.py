"""Every head says what plain scikit-learn (or LightGBM) says on the same arrays with the settings that it chose."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC

from penult.pipeline.heads import head_names, recipe_of
from penult.pipeline.heads.recipe import HeadOptions

Params = dict[str, Any]

TREES: Params = {
    "num_leaves": 15,
    "colsample_bytree": 0.1,
    "max_bin": 63,
    "min_child_samples": 15,
    "random_state": 0,
    "n_jobs": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}

PLAIN: dict[str, Callable[[Params], Any]] = {
    "logistic": lambda p: make_pipeline(StandardScaler(), LogisticRegression(C=p["C_"], tol=1e-8, max_iter=5000)),
    "ridge": lambda p: make_pipeline(StandardScaler(), RidgeClassifier(alpha=p["alpha_"])),
    "lda": lambda p: make_pipeline(
        StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=p["shrinkage_"])
    ),
    "linear-svc": lambda p: make_pipeline(
        StandardScaler(), LinearSVC(C=p["C_"], dual="auto", max_iter=2000, random_state=0)
    ),
    "svc": lambda p: make_pipeline(StandardScaler(), SVC(C=p["svc__C"], gamma=p["svc__gamma"])),
    "knn": lambda p: make_pipeline(Normalizer(), KNeighborsClassifier(p["kneighborsclassifier__n_neighbors"])),
    "centroid": lambda _: make_pipeline(StandardScaler(), NearestCentroid()),
    "gaussian-nb": lambda p: make_pipeline(StandardScaler(), GaussianNB(var_smoothing=p["gaussiannb__var_smoothing"])),
    "random-forest": lambda p: RandomForestClassifier(300, min_samples_leaf=p["min_samples_leaf"], random_state=0),
    "mlp": lambda p: make_pipeline(
        StandardScaler(),
        MLPClassifier((256,), alpha=p["mlpclassifier__alpha"], early_stopping=True, max_iter=300, random_state=0),
    ),
    "lightgbm": lambda p: LGBMClassifier(n_estimators=p["n_trees_"], **TREES),
}

PLAIN_NUMBERS: dict[str, Callable[[Params], Any]] = {
    "ridge": lambda p: make_pipeline(StandardScaler(), Ridge(alpha=p["alpha_"])),
    "svr": lambda p: TransformedTargetRegressor(
        make_pipeline(StandardScaler(), SVR(C=p["regressor__svr__C"], gamma=p["regressor__svr__gamma"])),
        transformer=StandardScaler(),
    ),
    "lightgbm": lambda p: LGBMRegressor(n_estimators=p["n_trees_"], **TREES),
}

PLAIN_TAGS: dict[str, Callable[[Any], Any]] = {
    "logistic": lambda each: make_pipeline(StandardScaler(), LogisticRegression(C=each.C_, tol=1e-8, max_iter=5000)),
    "ridge": lambda each: make_pipeline(StandardScaler(), RidgeClassifier(alpha=each.alpha_)),
}

LEAST = {"logistic": 0.997, "ridge": 0.995, "linear-svc": 0.99, "svc": 0.98}
"""The share of equal labels; one means all. What converges, or calibrates, may differ on a row between two classes."""


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32]]:
    features, labels = load_digits(return_X_y=True)
    X = features[:, features[:600].std(axis=0) > 1].astype(np.float32)
    return X[:600], labels[:600], X[600:1400]


def test_each_head_has_its_plain_counterpart() -> None:
    assert set(PLAIN) == set(head_names())
    assert set(PLAIN_NUMBERS) == set(head_names("regression"))
    assert set(PLAIN_TAGS) == set(head_names("multilabel"))


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_ has at least 1 zero")
@pytest.mark.parametrize("name", PLAIN)
def test_every_head_says_what_plain_scikit_learn_says(
    name: str, digits: tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32]]
) -> None:
    X, y, Z = digits
    fitted = recipe_of(name, HeadOptions(len(y), 10, X.shape[1])).fit(X, y)
    plain = PLAIN[name](fitted.params).fit(X, y)
    ours = fitted.estimator.predict_proba(Z).argmax(axis=1)
    assert np.mean(ours == plain.predict(Z)) >= LEAST.get(name, 1.0)


@pytest.mark.parametrize("name", PLAIN_NUMBERS)
def test_every_head_for_numbers_says_what_plain_scikit_learn_says(
    name: str, digits: tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32]]
) -> None:
    X, y, Z = digits
    numbers: Any = y + np.random.default_rng(0).normal(0, 0.3, len(y))
    fitted = recipe_of(name, HeadOptions(len(y), 1, X.shape[1]), task="regression").fit(X, numbers)
    plain = PLAIN_NUMBERS[name](fitted.params).fit(X, numbers)
    assert np.allclose(fitted.estimator.predict(Z), plain.predict(Z), atol=1e-3)


@pytest.mark.parametrize("name", PLAIN_TAGS)
def test_every_head_for_tags_says_what_plain_scikit_learn_says(
    name: str, digits: tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32]]
) -> None:
    X, y, Z = digits
    tags = np.column_stack([y % 2 == 0, np.isin(y, (0, 6, 8, 9))]).astype(np.int64)
    fitted = recipe_of(name, HeadOptions(len(y), 2, X.shape[1]), task="multilabel").fit(X, tags)
    ours = fitted.estimator.predict(Z)
    for place, each in enumerate(fitted.estimator.estimators_):
        plain = PLAIN_TAGS[name](each).fit(X, tags[:, place])
        assert np.mean(ours[:, place] == plain.predict(Z)) > 0.99
