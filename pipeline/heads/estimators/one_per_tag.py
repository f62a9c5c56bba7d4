"""A head for tags: one binary classifier per tag, on a shared basis."""

from inspect import signature
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import ClassifierTags
from sklearn.utils.validation import check_is_fitted, validate_data

from penult.errors import HeadError
from penult.pipeline.heads.logistic.path import LogisticPath
from penult.pipeline.heads.numerics.basis import Basis
from penult.pipeline.heads.numerics.linear import FLOATS, LinearHead

__all__ = ["PerTagClassifier"]


class PerTagClassifier(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Fits a clone of ``estimator`` to each column of Y (n, T); the higher value means that a row has the tag.

    ``predict_proba`` returns the probability of each tag, (n, T); rows do not sum to 1.

    Attributes: ``estimators_``, one per tag.
    """

    @property
    def reads_blocks(self) -> bool:
        """Whether the tags' estimators read their rows in blocks."""
        return self.estimator is None or bool(getattr(self.estimator, "reads_blocks", False))

    def __init__(self, estimator: Any = None) -> None:
        self.estimator = estimator

    def fit(self, X: ArrayLike, Y: ArrayLike, *, groups: ArrayLike | None = None, basis: Basis | None = None) -> Self:
        """Fits on X (n, D) and Y (n, T); a group is held out as a whole, ``basis`` is the exact basis of X."""
        features, tags = validate_data(self, X, Y, dtype=list(FLOATS), multi_output=True)
        columns = [_as_bits(column, place) for place, column in enumerate(tags.reshape(len(tags), -1).T)]
        estimator = LogisticPath() if self.estimator is None else self.estimator
        takes = signature(estimator.fit).parameters
        if "basis" in takes and basis is None and len(columns) > 1:
            basis = Basis.of(features)
        known = {"groups": groups, "basis": basis}
        extra = {name: value for name, value in known.items() if name in takes and value is not None}
        self.estimators_ = [clone(estimator).fit(features, column, **extra) for column in columns]
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """Returns the probability of each tag, (n, T)."""
        check_is_fitted(self, "estimators_")
        features = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        if all(isinstance(each, LinearHead) for each in self.estimators_):
            return _sigmoid(self._scores(features))
        return np.column_stack([each.predict_proba(features)[:, 1] for each in self.estimators_])

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Returns 1 for each tag with a probability above 0.5, (n, T)."""
        chosen: NDArray[np.int64] = (self.predict_proba(X) > 0.5).astype(np.int64)
        return chosen

    def _scores(self, features: NDArray[np.floating]) -> NDArray[np.floating]:
        """Returns the log-odds of all tags from one matrix product."""
        slopes = np.array([each.coef_[1] - each.coef_[0] for each in self.estimators_])
        levels = np.array([each.intercept_[1] - each.intercept_[0] for each in self.estimators_])
        scores: NDArray[np.floating[Any]] = features @ slopes.T.astype(features.dtype) + levels.astype(features.dtype)
        return scores

    def __sklearn_tags__(self) -> Any:
        """Declares to scikit-learn that Y is a binary matrix."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.classifier_tags = ClassifierTags(multi_class=False, multi_label=True)
        return tags


def _as_bits(column: NDArray[Any], place: int) -> NDArray[np.intp]:
    found, bits = np.unique(column, return_inverse=True)
    if len(found) != 2:
        raise HeadError(
            f"the tag in column {place} has {len(found)} values on {len(column)} rows (1 class or many)",
            expected="two values: rows with the tag and rows without it",
        )
    return bits


def _sigmoid(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    from scipy.special import expit

    probabilities: NDArray[np.floating[Any]] = expit(scores)
    return probabilities
