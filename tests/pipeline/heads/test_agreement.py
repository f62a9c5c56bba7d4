"""Every head agrees with plain scikit-learn or LightGBM, fitted with the parameters that it chose."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from penult.pipeline.heads import head_names, recipe_of
from penult.pipeline.heads.recipe import HeadOptions
from tests.pipeline.plain_heads import LEAST, PLAIN, PLAIN_NUMBERS, PLAIN_TAGS


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32]]:
    features, labels = load_digits(return_X_y=True)
    X = features[:, features[:600].std(axis=0) > 1].astype(np.float32)
    return X[:600], labels[:600], X[600:1400]


def test_each_head_has_a_plain_counterpart() -> None:
    assert set(PLAIN) == set(head_names())
    assert set(PLAIN_NUMBERS) == set(head_names("regression"))
    assert set(PLAIN_TAGS) == set(head_names("multilabel"))


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_ has at least 1 zero")
@pytest.mark.parametrize("name", PLAIN)
def test_every_head_predicts_as_plain_scikit_learn(
    name: str, digits: tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32]]
) -> None:
    X, y, Z = digits
    fitted = recipe_of(name, HeadOptions(len(y), 10, X.shape[1])).fit(X, y)
    plain = PLAIN[name](fitted.params, len(y)).fit(X, y)
    ours = fitted.estimator.predict_proba(Z).argmax(axis=1)
    assert np.mean(ours == plain.predict(Z)) >= LEAST.get(name, 1.0)


@pytest.mark.parametrize("name", PLAIN_NUMBERS)
def test_every_regression_head_predicts_as_plain_scikit_learn(
    name: str, digits: tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32]]
) -> None:
    X, y, Z = digits
    numbers: Any = y + np.random.default_rng(0).normal(0, 0.3, len(y))
    fitted = recipe_of(name, HeadOptions(len(y), 1, X.shape[1]), task="regression").fit(X, numbers)
    plain = PLAIN_NUMBERS[name](fitted.params, len(y)).fit(X, numbers)
    assert np.allclose(fitted.estimator.predict(Z), plain.predict(Z), atol=1e-3)


@pytest.mark.parametrize("name", PLAIN_TAGS)
def test_every_multilabel_head_predicts_as_plain_scikit_learn(
    name: str, digits: tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32]]
) -> None:
    X, y, Z = digits
    tags = np.column_stack([y % 2 == 0, np.isin(y, (0, 6, 8, 9))]).astype(np.int64)
    fitted = recipe_of(name, HeadOptions(len(y), 2, X.shape[1]), task="multilabel").fit(X, tags)
    ours = fitted.estimator.predict(Z)
    for place, each in enumerate(fitted.estimator.estimators_):
        plain = PLAIN_TAGS[name](each).fit(X, tags[:, place])
        assert np.mean(ours[:, place] == plain.predict(Z)) > 0.99
