"""Every head is a scikit-learn estimator that others can trust: scikit-learn's own checks, and ours for all names."""

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
from penult.pipeline.heads.names import CLASS_HEADS
from penult.pipeline.heads.recipe import HeadOptions, Recipe

OWN = (
    *(LogisticPath, RidgePath, ShrunkenDiscriminant, NearestMean, LinearSVCPath, BoostedClassifier),
    *(RidgeRegressor, BoostedRegressor, PerTagClassifier),
)


@parametrize_with_checks([kind() for kind in OWN])  # type: ignore[untyped-decorator]  # scikit-learn ships no types
def test_scikit_learns_checks_pass(estimator: BaseEstimator, check: Callable[[BaseEstimator], None]) -> None:
    with warnings.catch_warnings():
        # The checks themselves skip by warning, and fit on data that cannot be fitted well.
        warnings.simplefilter("ignore")
        check(estimator)


Split = tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]]


@pytest.fixture(scope="module")
def digits() -> Split:
    features, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))[:900]
    features, labels = features[order].astype(np.float32), labels[order]
    return features[:600], labels[:600], features[600:], labels[600:]


def options(split: Split, **more: Any) -> HeadOptions:
    return HeadOptions(len(split[1]), 10, split[0].shape[1], **more)


FLOORS = {"centroid": 0.85, "gaussian-nb": 0.8, "lightgbm": 0.9, "ridge": 0.9, "linear-svc": 0.9}


@pytest.mark.parametrize("name", head_names())
def test_every_head_learns_digits_and_gives_probabilities(name: str, digits: Split) -> None:
    X, y, X_test, y_test = digits
    fitted = recipe_of(name, options(digits)).fit(X, y)
    chances = fitted.estimator.predict_proba(X_test)
    assert chances.shape == (300, 10)
    assert np.allclose(chances.sum(axis=1), 1, atol=1e-5)
    assert (chances >= 0).all()
    assert np.mean(chances.argmax(axis=1) == y_test) > FLOORS.get(name, 0.92)
    assert not fitted.notes or name == "svc"
    again = recipe_of(name, options(digits)).fit(X, y).estimator.predict_proba(X_test)
    assert np.array_equal(chances, again)


@pytest.mark.parametrize("name", head_names())
def test_every_head_takes_two_classes_with_few_images(name: str) -> None:
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1], 6)
    X = (rng.normal(size=(12, 40)) + 3 * y[:, None]).astype(np.float32)
    fitted = recipe_of(name, HeadOptions(12, 2, 40)).fit(X, y)
    assert fitted.estimator.predict_proba(X).shape == (12, 2)


WEIGHTLESS = ("knn", "mlp")


@pytest.mark.parametrize("name", [name for name in head_names() if name not in WEIGHTLESS])
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


@pytest.mark.parametrize("name", [*WEIGHTLESS, "sklearn.neighbors:KNeighborsClassifier"])
def test_heads_that_cannot_weight_classes_name_those_that_can(name: str) -> None:
    with pytest.raises(InputError, match="does not support class weights") as refused:
        recipe_of(name, HeadOptions(10, 2, 4, class_weight="balanced"))
    named = re.search(r"take one of ([a-z, -]+)", str(refused.value))
    assert named is not None
    assert set(named[1].split(", ")) == set(CLASS_HEADS) - set(WEIGHTLESS)


@pytest.mark.parametrize(
    "head", ["sklearn.linear_model:LogisticRegression", make_pipeline(StandardScaler(), LogisticRegression())]
)
def test_any_classifier_that_takes_class_weights_is_given_them(head: Any) -> None:
    recipe = recipe_of(head, HeadOptions(10, 2, 4, class_weight="balanced"))
    given = {value for name, value in recipe.estimator.get_params().items() if name.endswith("class_weight")}
    assert given == {"balanced"}
    assert isinstance(head, str) or head[-1].class_weight is None


def test_naive_bayes_with_balanced_weights_is_scikit_learns_with_weighted_rows() -> None:
    rng = np.random.default_rng(4)
    y = (rng.random(300) < 0.1).astype(int)
    X = (rng.normal(size=(300, 6)) + 0.4 * y[:, None]).astype(np.float32)
    ours = recipe_of("gaussian-nb", HeadOptions(300, 2, 6, class_weight="balanced")).fit(X, y)
    smoothing = ours.params["gaussiannb__var_smoothing"]
    rows = StandardScaler().fit_transform(X)
    plain = GaussianNB(var_smoothing=smoothing).fit(rows, y, sample_weight=compute_sample_weight("balanced", y))
    assert np.allclose(ours.estimator.predict_proba(X), plain.predict_proba(rows), atol=1e-5)


def test_an_unknown_head_is_answered_with_close_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'logistic'"):
        recipe_of("logistc", HeadOptions(10, 2, 4))


def test_any_other_classifier_is_named_by_module_and_class(digits: Split) -> None:
    X, y, X_test, y_test = digits
    recipe = recipe_of("sklearn.neighbors:NearestCentroid", options(digits), {"shrink_threshold": 0.1})
    assert recipe.estimator.shrink_threshold == 0.1
    with_scores = recipe_of("sklearn.linear_model:RidgeClassifier", options(digits)).fit(X, y)
    assert "has no predict_proba" in with_scores.notes[0]
    assert np.mean(with_scores.estimator.predict_proba(X_test).argmax(axis=1) == y_test) > 0.9


@pytest.mark.parametrize(
    ("target", "params", "said"),
    [
        ("sklearn.nowhere:Thing", {}, "cannot be imported"),
        ("sklearn.svm:Nothing", {}, "cannot be imported"),
        ("json:loads", {}, "no scikit-learn estimator"),
        ("sklearn.svm:SVC", {"colour": 1}, "does not accept these parameters"),
    ],
)
def test_what_is_no_classifier_is_refused(target: str, params: dict[str, Any], said: str) -> None:
    with pytest.raises((UnknownNameError, InputError), match=said):
        recipe_of(target, HeadOptions(10, 2, 4), params)


def test_fixed_parameters_leave_the_search(digits: Split) -> None:
    recipe = recipe_of("svc", options(digits), {"C": 5.0})
    assert "svc__C" not in recipe.grid
    assert recipe.estimator.get_params()["svc__C"] == 5.0
    assert recipe_of("logistic", options(digits), {"C": 0.5}).fit(digits[0], digits[1]).params["C_"] == 0.5
    with pytest.raises(UnknownNameError, match="parameter"):
        recipe_of("svc", options(digits), {"Cee": 5.0})


def test_a_name_can_be_taken_once() -> None:
    with pytest.raises(InputError, match="already registered"):
        register("logistic", "elsewhere:thing")
    with pytest.raises(InputError, match="is not a head"):
        register("mine", "no_colon")


def test_a_registered_head_must_give_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    from penult.pipeline.heads import registry

    monkeypatch.setitem(registry._TARGETS, "classification", dict(registry._TARGETS["classification"]))
    register("mine", "builtins:repr")
    assert "mine" in head_names()
    with pytest.raises(HeadError, match="returned a str"):
        recipe_of("mine", HeadOptions(10, 2, 4))


def test_a_refusal_of_scikit_learn_is_a_head_error() -> None:
    with pytest.raises(HeadError, match="RadiusNeighborsClassifier refused"):
        recipe_of("sklearn.neighbors:RadiusNeighborsClassifier", HeadOptions(4, 2, 2), {"radius": "wide"}).fit(
            np.eye(4, 2, dtype=np.float32), np.array([0, 0, 1, 1])
        )


def test_a_large_search_runs_on_a_sample_and_refits_on_all() -> None:
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
