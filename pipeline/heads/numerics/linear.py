"""The base class of linear heads, and functions for temperatures, class weights and log-loss."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from penult.errors import HeadError

__all__ = ["LinearHead", "choose_temperature", "class_weights", "mean_log_loss", "softmax"]


FLOATS = (np.float32, np.float64, np.float16)


class LinearHead(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A classifier whose probabilities are softmax(features @ coef_.T + intercept_), on unscaled features.

    ``coef_`` (C, D) and ``intercept_`` (C) are float64 and contain the scaling. Two classes have two rows.
    """

    reads_blocks = True

    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]
    classes_: NDArray[Any]

    def _checked(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.floating], NDArray[np.intp]]:
        """Returns the features and the class codes, and sets ``classes_``."""
        features, labels = validate_data(self, X, y, dtype=list(FLOATS))
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise HeadError(
                f"all {len(codes)} rows have one class, {self.classes_.tolist()[0]!r}",
                expected="at least two classes",
                remedy="add images of another class",
            )
        return features, codes

    def decision_function(self, X: ArrayLike) -> NDArray[np.floating]:
        """Returns a score per class, (n, C); for two classes the second score minus the first, (n)."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """Returns a probability per class, (n, C), in the precision of the features (float16 becomes float32)."""
        return softmax(self._scores(X))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Returns the most probable class of each row."""
        best = self._scores(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _scores(self, X: ArrayLike) -> NDArray[np.floating]:
        check_is_fitted(self, "coef_")
        features = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        scores: NDArray[np.floating] = features @ self.coef_.T.astype(features.dtype)
        scores += self.intercept_.astype(features.dtype)
        return scores

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fits the head; subclasses implement this."""
        raise NotImplementedError


def softmax(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns the softmax of each row; the input is overwritten."""
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def class_weights(
    class_weight: str | dict[Any, float] | None, classes: NDArray[Any], counts: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Returns the weight of each class: 1, the inverse of its frequency ("balanced"), or the weight in the dict."""
    if class_weight is None:
        return np.ones(len(classes))
    if class_weight == "balanced":
        balanced: NDArray[np.float64] = counts.sum() / (len(classes) * counts)
        return balanced
    if not isinstance(class_weight, dict):
        raise HeadError(f"class_weight is {class_weight!r}", expected='None, "balanced", or a dict of class to weight')
    return np.array([float(class_weight.get(name, 1.0)) for name in classes.tolist()])


MOST_ROWS = 20_000
ROUNDS = 60


def mean_log_loss(scores: NDArray[np.floating], codes: NDArray[np.intp]) -> float:
    """Returns the mean negative log of the softmax of ``scores`` (n, C) at the true class."""
    highest = scores.max(axis=1)
    mass = np.exp(scores - highest[:, None]).sum(axis=1, dtype=np.float64)
    return float(np.mean(np.log(mass) + highest - scores[np.arange(len(codes)), codes]))


def choose_temperature(scores: NDArray[np.floating], codes: NDArray[np.intp]) -> tuple[float, float]:
    """Returns the factor t >= 0 for which softmax(t * scores) has the lowest log-loss, and that loss.

    The loss is convex in t, so a bracketed Newton iteration on its slope finds the minimum. 20,000 rows are enough.
    """
    step = -(-len(codes) // MOST_ROWS)
    part, true = scores[::step].astype(np.float64), codes[::step]
    own = part[np.arange(len(true)), true]
    part = part - part.max(axis=1, keepdims=True)
    own = own - scores[::step].max(axis=1)
    unit = max(float(np.sqrt(np.mean(part**2))), 1e-12)
    low, high, factor = 0.0, 1e4 / unit, 1 / unit
    for _ in range(ROUNDS):
        probabilities = np.exp(factor * part)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        mean = (probabilities * part).sum(axis=1)
        slope = float(np.mean(mean - own))
        bend = float(np.mean((probabilities * part**2).sum(axis=1) - mean**2))
        low, high = (factor, high) if slope < 0 else (low, factor)
        newton = factor - slope / bend if bend > 0 else -1.0
        following = newton if low < newton < high else (low + high) / 2
        if abs(following - factor) < 1e-6 * factor:
            break
        factor = following
    return factor, mean_log_loss(factor * scores, codes)
