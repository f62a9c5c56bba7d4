"""Gradient-boosted trees with the settings that suit dense embeddings, stopped when held-out loss rises."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from penult.errors import HeadError
from penult.pipeline.heads.blocks import calm_blas
from penult.pipeline.heads.boosting import Growth
from penult.pipeline.heads.folds import assign_folds

__all__ = ["BoostedTrees"]


class BoostedTrees(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """LightGBM with few leaves, few bins and a tenth of the features per tree; a fifth of the rows ends the boosting.

    The trees are then grown again on all rows, as many as were best. ``booster_`` is the plain ``LGBMClassifier``;
    ``n_trees_`` how many rounds it took.
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
        """Fits on X (n, D) and y (n); ``groups`` are held out whole."""
        features, labels = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise HeadError(f"all {len(codes)} rows have one class", expected="two classes at least")
        out = assign_folds(codes, groups, n_folds=5, seed=self.random_state) == 0
        is_enough = out.any() and len(np.unique(codes[~out])) == len(self.classes_)
        with calm_blas():
            self.booster_ = self._growth().grown(features, codes, out if is_enough else None)
        self.n_trees_ = int(self.booster_.n_estimators)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Returns a probability per class, (n, C)."""
        check_is_fitted(self, "booster_")
        features = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        chances: NDArray[np.float64] = self.booster_.predict_proba(features)
        return chances

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Returns the most probable class of each row."""
        best = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _growth(self) -> Growth:
        from lightgbm import LGBMClassifier

        params = self.get_params(deep=False)
        weight = params.pop("class_weight")
        if isinstance(weight, dict):
            weight = {i: weight.get(name, 1.0) for i, name in enumerate(self.classes_.tolist())}
        return Growth(LGBMClassifier, **params, more=(("class_weight", weight),))
