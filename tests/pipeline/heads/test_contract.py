"""The contract of all heads: scikit-learn's estimator checks, agreement with scikit-learn, registry, recipes."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

from penult.errors import HeadError, InputError, UnknownNameError
from penult.pipeline.heads import head_names, recipe_of, register
from penult.pipeline.heads.estimators.boosted import BoostedClassifier, BoostedRegressor
from penult.pipeline.heads.estimators.centroid import NearestMean
from penult.pipeline.heads.estimators.lda import ShrunkenDiscriminant
from penult.pipeline.heads.estimators.linear_svm import LinearSVCPath
from penult.pipeline.heads.estimators.one_per_tag import PerTagClassifier
from penult.pipeline.heads.estimators.ridge import RidgePath, RidgeRegressor
from penult.pipeline.heads.logistic.path import LogisticPath
from penult.pipeline.heads.names import CLASS_HEADS, UNWEIGHTED
from penult.pipeline.heads.recipe import HeadOptions, Recipe
from tests.pipeline.plain_heads import LEAST, PLAIN, PLAIN_NUMBERS, PLAIN_TAGS

DAILY = (LogisticPath, RidgePath, ShrunkenDiscriminant, NearestMean)
SLOW = (LinearSVCPath, BoostedClassifier, RidgeRegressor, BoostedRegressor, PerTagClassifier)


def run_check(estimator: BaseEstimator, check: Callable[[BaseEstimator], None]) -> None:
    with warnings.catch_warnings():
        # The checks skip by warning, and fit on data that cannot be fitted well.
        warnings.simplefilter("ignore")
        check(estimator)


@parametrize_with_checks([kind() for kind in DAILY])  # type: ignore[untyped-decorator]  # scikit-learn ships no types
def test_linear_heads_pass_scikit_learns_checks(
    estimator: BaseEstimator, check: Callable[[BaseEstimator], None]
) -> None:
    run_check(estimator, check)


@pytest.mark.slow
@parametrize_with_checks([kind() for kind in SLOW])  # type: ignore[untyped-decorator]  # scikit-learn ships no types
def test_all_other_estimators_pass_scikit_learns_checks(
    estimator: BaseEstimator, check: Callable[[BaseEstimator], None]
) -> None:
    run_check(estimator, check)


Split = tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]]


@pytest.fixture(scope="module")
def digits() -> Split:
    features, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))[:900]
    features, labels = features[order].astype(np.float32), labels[order]
    features = features[:, features[:600].std(axis=0) > 1]
    return features[:600], labels[:600], features[600:], labels[600:]


def options(split: Split, **more: Any) -> HeadOptions:
    return HeadOptions(len(split[1]), 10, split[0].shape[1], **more)


FLOORS = {"centroid": 0.85, "gaussian-nb": 0.8, "lightgbm": 0.9, "ridge": 0.9, "linear-svc": 0.9}


def test_each_head_has_a_plain_counterpart() -> None:
    assert set(PLAIN) == set(head_names())
    assert set(PLAIN_NUMBERS) == set(head_names("regression"))
    assert set(PLAIN_TAGS) == set(head_names("multilabel"))


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_ has at least 1 zero")
@pytest.mark.parametrize("name", head_names())
def test_every_head_learns_digits_as_plain_scikit_learn_does(name: str, digits: Split) -> None:
    X, y, X_test, y_test = digits
    fitted = recipe_of(name, options(digits)).fit(X, y)
    probabilities = fitted.estimator.predict_proba(X_test)
    assert probabilities.shape == (300, 10)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities >= 0).all()
    assert np.mean(probabilities.argmax(axis=1) == y_test) > FLOORS.get(name, 0.92)
    assert not fitted.notes or name == "svc"
    # These two take long, so the repetition starts from the chosen parameters.
    chosen = {key: value for key, value in fitted.params.items() if name in ("mlp", "random-forest")}
    again = recipe_of(name, options(digits), chosen).fit(X, y).estimator.predict_proba(X_test)
    assert np.array_equal(probabilities, again)
    plain = PLAIN[name](fitted.params, len(y)).fit(X, y)
    assert np.mean(probabilities.argmax(axis=1) == plain.predict(X_test)) >= LEAST.get(name, 1.0)


@pytest.mark.parametrize("name", PLAIN_NUMBERS)
def test_every_regression_head_predicts_as_plain_scikit_learn(name: str, digits: Split) -> None:
    X, y, X_test, _ = digits
    numbers: Any = y + np.random.default_rng(0).normal(0, 0.3, len(y))
    fitted = recipe_of(name, HeadOptions(len(y), 1, X.shape[1]), task="regression").fit(X, numbers)
    plain = PLAIN_NUMBERS[name](fitted.params, len(y)).fit(X, numbers)
    assert np.allclose(fitted.estimator.predict(X_test), plain.predict(X_test), atol=1e-3)


@pytest.mark.parametrize("name", PLAIN_TAGS)
def test_every_multilabel_head_predicts_as_plain_scikit_learn(name: str, digits: Split) -> None:
    X, y, X_test, _ = digits
    tags = np.column_stack([y % 2 == 0, np.isin(y, (0, 6, 8, 9))]).astype(np.int64)
    fitted = recipe_of(name, HeadOptions(len(y), 2, X.shape[1]), task="multilabel").fit(X, tags)
    ours = fitted.estimator.predict(X_test)
    for column, each in enumerate(fitted.estimator.estimators_):
        plain = PLAIN_TAGS[name](each).fit(X, tags[:, column])
        assert np.mean(ours[:, column] == plain.predict(X_test)) > 0.99


@pytest.mark.parametrize("name", head_names())
def test_every_head_fits_two_classes_with_few_images(name: str) -> None:
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1], 6)
    X = (rng.normal(size=(12, 40)) + 3 * y[:, None]).astype(np.float32)
    fitted = recipe_of(name, HeadOptions(12, 2, 40)).fit(X, y)
    assert fitted.estimator.predict_proba(X).shape == (12, 2)


@pytest.mark.parametrize("name", [name for name in head_names() if name not in UNWEIGHTED])
def test_balanced_weights_find_more_of_a_rare_class(name: str) -> None:
    rng = np.random.default_rng(2)
    y = (rng.random(600) < 0.08).astype(int)
    X = (rng.normal(size=(600, 20)) + 0.35 * y[:, None]).astype(np.float32)
    if name == "random-forest":
        X = X[:, :3] + y[:, None]

    def recall(class_weight: str | None) -> float:
        task = HeadOptions(600, 2, X.shape[1], class_weight=class_weight)
        recipe = recipe_of(name, task)
        recipe = recipe.with_params({"min_samples_leaf": 10}) if name == "random-forest" else recipe
        return float(recipe.fit(X, y).estimator.predict(X)[y == 1].mean())

    assert recall("balanced") > recall(None) or name == "svc"


@pytest.mark.parametrize("name", [*UNWEIGHTED, "sklearn.neighbors:KNeighborsClassifier"])
def test_the_error_for_class_weights_lists_the_heads_that_support_them(name: str) -> None:
    with pytest.raises(InputError, match="does not support class weights") as refused:
        recipe_of(name, HeadOptions(10, 2, 4, class_weight="balanced"))
    named = re.search(r"use one of ([a-z, -]+)", str(refused.value))
    assert named is not None
    assert set(named[1].split(", ")) == set(CLASS_HEADS) - set(UNWEIGHTED)


@pytest.mark.parametrize(
    "head", ["sklearn.linear_model:LogisticRegression", make_pipeline(StandardScaler(), LogisticRegression())]
)
def test_class_weights_reach_any_classifier_that_has_them(head: Any) -> None:
    recipe = recipe_of(head, HeadOptions(10, 2, 4, class_weight="balanced"))
    given = {value for name, value in recipe.estimator.get_params().items() if name.endswith("class_weight")}
    assert given == {"balanced"}
    assert isinstance(head, str) or head[-1].class_weight is None


def test_balanced_naive_bayes_equals_scikit_learn_with_sample_weights() -> None:
    rng = np.random.default_rng(4)
    y = (rng.random(300) < 0.1).astype(int)
    X = (rng.normal(size=(300, 6)) + 0.4 * y[:, None]).astype(np.float32)
    ours = recipe_of("gaussian-nb", HeadOptions(300, 2, 6, class_weight="balanced")).fit(X, y)
    smoothing = ours.params["gaussiannb__var_smoothing"]
    rows = StandardScaler().fit_transform(X)
    plain = GaussianNB(var_smoothing=smoothing).fit(rows, y, sample_weight=compute_sample_weight("balanced", y))
    assert np.allclose(ours.estimator.predict_proba(X), plain.predict_proba(rows), atol=1e-5)


def test_the_error_for_an_unknown_head_suggests_a_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'logistic'"):
        recipe_of("logistc", HeadOptions(10, 2, 4))


def test_any_classifier_can_be_named_by_module_and_class(digits: Split) -> None:
    X, y, X_test, y_test = digits
    recipe = recipe_of("sklearn.neighbors:NearestCentroid", options(digits), {"shrink_threshold": 0.1})
    assert recipe.estimator.shrink_threshold == 0.1
    with_scores = recipe_of("sklearn.linear_model:RidgeClassifier", options(digits)).fit(X, y)
    assert "has no predict_proba" in with_scores.notes[0]
    assert np.mean(with_scores.estimator.predict_proba(X_test).argmax(axis=1) == y_test) > 0.9


@pytest.mark.parametrize(
    ("target", "params", "message"),
    [
        ("sklearn.nowhere:Thing", {}, "cannot be imported"),
        ("sklearn.svm:Nothing", {}, "cannot be imported"),
        ("json:loads", {}, "not a scikit-learn estimator"),
        ("sklearn.svm:SVC", {"colour": 1}, "does not accept these parameters"),
    ],
)
def test_a_wrong_class_or_parameter_raises_an_error(target: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises((UnknownNameError, InputError), match=message):
        recipe_of(target, HeadOptions(10, 2, 4), params)


def test_fixed_parameters_are_not_searched(digits: Split) -> None:
    recipe = recipe_of("svc", options(digits), {"C": 5.0})
    assert "svc__C" not in recipe.grid
    assert recipe.estimator.get_params()["svc__C"] == 5.0
    assert recipe_of("logistic", options(digits), {"C": 0.5}).fit(digits[0], digits[1]).params["C_"] == 0.5
    with pytest.raises(UnknownNameError, match="parameter"):
        recipe_of("svc", options(digits), {"Cee": 5.0})


def test_a_name_can_be_registered_once() -> None:
    with pytest.raises(InputError, match="already registered"):
        register("logistic", "elsewhere:thing")
    with pytest.raises(InputError, match="is not a head"):
        register("mine", "no_colon")


def test_a_registered_function_must_return_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    from penult.pipeline.heads import registry

    monkeypatch.setitem(registry._TARGETS, "classification", dict(registry._TARGETS["classification"]))
    register("mine", "builtins:repr")
    assert "mine" in head_names()
    with pytest.raises(HeadError, match="returned a str"):
        recipe_of("mine", HeadOptions(10, 2, 4))


def test_an_error_of_scikit_learn_becomes_a_head_error() -> None:
    with pytest.raises(HeadError, match="RadiusNeighborsClassifier cannot be fitted"):
        recipe_of("sklearn.neighbors:RadiusNeighborsClassifier", HeadOptions(4, 2, 2), {"radius": "wide"}).fit(
            np.eye(4, 2, dtype=np.float32), np.array([0, 0, 1, 1])
        )


def test_a_large_search_runs_on_a_sample_and_refits_on_all_rows() -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 4000)
    X = (rng.normal(size=(4000, 5)) + y[:, None]).astype(np.float32)
    seen: list[int] = []

    class Spy(BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
        def __init__(self, depth: int = 1) -> None:
            self.depth = depth

        def fit(self, X: NDArray[np.float32], y: NDArray[np.intp]) -> "Spy":
            seen.append(len(y))
            return self

        def predict_proba(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.full((len(X), 3), 1 / 3)

    Recipe(Spy(), {"depth": (1, 2)}, search_rows=600).fit(X, y)
    assert seen[-1] == 4000
    assert all(350 < rows < 450 for rows in seen[:-1])
