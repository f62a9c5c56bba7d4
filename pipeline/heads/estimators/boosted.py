"""Gradient-boosted trees with settings for dense embeddings and early stopping."""

from dataclasses import dataclass
from inspect import signature
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from penult.cores import usable_cores
from penult.errors import HeadError
from penult.pipeline.heads.numerics.blocks import limit_blas_threads
from penult.pipeline.heads.numerics.folds import assign_folds, number_folds

__all__ = ["BoostedClassifier", "BoostedRegressor", "TreeSettings"]


class BoostedRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """LightGBM regression with few leaves, few bins and a tenth of the features per tree.

    Attributes: ``booster_``, the fitted ``LGBMRegressor``; ``n_trees_``, its number of trees.
    """

    def __init__(
        self,
        *,
        learning_rate: float = 0.1,
        num_leaves: int = 15,
        feature_fraction: float = 0.1,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.feature_fraction = feature_fraction
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike, *, groups: ArrayLike | None = None) -> Self:
        """Fits on X (n, D) and y (n); a group is held out as a whole."""
        from lightgbm import LGBMRegressor

        features, numbers = validate_data(self, X, y, dtype=[np.float32, np.float64], y_numeric=True)
        out = number_folds(len(numbers), groups, n_folds=5, seed=self.random_state) == 0
        settings = TreeSettings(LGBMRegressor, **self.get_params(deep=False))
        with limit_blas_threads():
            self.booster_ = settings.fit(features, numbers, out if 0 < out.sum() < len(out) else None)
        self.n_trees_ = int(self.booster_.n_estimators)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Returns the predicted number of each row, (n)."""
        check_is_fitted(self, "booster_")
        features: Any = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        numbers: NDArray[np.float64] = self.booster_.predict(features)
        return numbers


MOST_TREES = 1000
USUAL_TREES = 100
PATIENCE = 30
LITTLE_WORK = 1_000_000
"""With fewer values than this, LightGBM's threads wait for each other longer than they work."""


@dataclass(frozen=True)
class TreeSettings:
    """The settings of the trees: ``kind`` is LightGBM's estimator class, ``more`` its further parameters."""

    kind: Any
    learning_rate: float
    num_leaves: int
    feature_fraction: float
    random_state: int
    n_jobs: int | None
    more: tuple[tuple[str, Any], ...] = ()

    def fit(self, features: NDArray[np.floating], targets: NDArray[Any], out: NDArray[np.bool_] | None) -> Any:
        """Returns trees fitted on all rows; their number is the best on the rows ``out`` when fitted on the others."""
        rounds = USUAL_TREES if out is None else self._best_rounds(features, targets, out)
        return self._trees(rounds, features.shape).fit(features, targets)

    def _best_rounds(self, features: NDArray[np.floating], targets: NDArray[Any], out: NDArray[np.bool_]) -> int:
        from lightgbm import early_stopping

        rest = ~out
        trees = self._trees(MOST_TREES, (int(rest.sum()), features.shape[1]))
        # LightGBM 4.7 deprecates eval_set; 4.5 does not have eval_X.
        knows_eval_x = "eval_X" in signature(trees.fit).parameters
        held_out = (
            {"eval_X": features[out], "eval_y": targets[out]}
            if knows_eval_x
            else {"eval_set": [(features[out], targets[out])]}
        )
        trees.fit(features[rest], targets[rest], **held_out, callbacks=[early_stopping(PATIENCE, verbose=False)])
        return max(1, int(trees.best_iteration_))

    def _trees(self, rounds: int, shape: tuple[int, int]) -> Any:
        rows, width = shape
        return self.kind(
            n_estimators=rounds,
            learning_rate=self.learning_rate,
            num_leaves=self.num_leaves,
            colsample_bytree=self.feature_fraction,
            max_bin=63,
            min_child_samples=max(1, min(50, rows // 40)),
            random_state=self.random_state,
            n_jobs=self.n_jobs or (1 if rows * width < LITTLE_WORK else usable_cores()),
            deterministic=True,
            force_row_wise=True,
            verbose=-1,
            **dict(self.more),
        )


class BoostedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """LightGBM classification with few leaves, few bins and a tenth of the features per tree.

    Early stopping on a fifth of the rows chooses the number of trees, which are then fitted on all rows.

    Attributes: ``booster_``, the fitted ``LGBMClassifier``; ``n_trees_``, its number of trees.
    """

    def __init__(
        self,
        *,
        learning_rate: float = 0.1,
        num_leaves: int = 15,
        feature_fraction: float = 0.1,
        class_weight: str | dict[Any, float] | None = None,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.feature_fraction = feature_fraction
        self.class_weight = class_weight
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: ArrayLike, *, groups: ArrayLike | None = None) -> Self:
        """Fits on X (n, D) and y (n); a group is held out as a whole."""
        features, labels = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise HeadError(f"all {len(codes)} rows have one class", expected="at least two classes")
        out = assign_folds(codes, groups, n_folds=5, seed=self.random_state) == 0
        is_enough = out.any() and len(np.unique(codes[~out])) == len(self.classes_)
        with limit_blas_threads():
            self.booster_ = self._settings().fit(features, codes, out if is_enough else None)
        self.n_trees_ = int(self.booster_.n_estimators)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Returns a probability per class, (n, C)."""
        check_is_fitted(self, "booster_")
        features = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        probabilities: NDArray[np.float64] = self.booster_.predict_proba(features)
        return probabilities

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Returns the most probable class of each row."""
        best = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _settings(self) -> TreeSettings:
        from lightgbm import LGBMClassifier

        params = self.get_params(deep=False)
        weight = params.pop("class_weight")
        if isinstance(weight, dict):
            weight = {i: weight.get(name, 1.0) for i, name in enumerate(self.classes_.tolist())}
        return TreeSettings(LGBMClassifier, **params, more=(("class_weight", weight),))
