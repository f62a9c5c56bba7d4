"""The metrics of a classifier on labelled images that it was not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penult.errors import InputError
from penult.pipeline.evaluation.abstention import Answers, answers_at
from penult.pipeline.evaluation.intervals import Interval, outranked, wilson
from penult.pipeline.words import shortlist

__all__ = ["ClassScore", "Evaluation", "Interval", "ReliabilityBin", "evaluate"]

BINS = 15
SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class ClassScore:
    """The precision, recall, F1 and number of test images of one class."""

    name: str
    precision: float
    recall: Interval
    f1: float
    support: int


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions whose highest probability is in [low, high): their mean confidence and their accuracy."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """The predictions of one head on one split, and the metrics computed from them.

    Row i of ``probabilities`` belongs to ``keys[i]``. ``unseen`` counts images per label that was not trained on; the
    arrays do not contain them, and ``statements`` mentions them. The head is unsure where its best class has a
    probability below ``min_confidence``; only ``answers`` leaves these images out.
    """

    classes: tuple[str, ...]
    keys: NDArray[np.uint8]
    labels: NDArray[np.intp]
    predicted: NDArray[np.intp]
    probabilities: NDArray[np.float32]
    unseen: dict[str, int] = field(default_factory=dict)
    min_confidence: float = 0.0

    @property
    def n(self) -> int:
        """The number of evaluated images."""
        return len(self.labels)

    @cached_property
    def confusion(self) -> NDArray[np.intp]:
        """The number of images by (true class, predicted class)."""
        from sklearn.metrics import confusion_matrix

        counts: NDArray[np.intp] = confusion_matrix(self.labels, self.predicted, labels=range(len(self.classes)))
        return counts

    @cached_property
    def accuracy(self) -> Interval:
        """The share of correct predictions, with its 95 % Wilson interval."""
        return wilson(int(np.trace(self.confusion)), self.n)

    @cached_property
    def per_class(self) -> tuple[ClassScore, ...]:
        """Precision, recall, F1 and support of each class."""
        from sklearn.metrics import precision_recall_fscore_support

        codes = range(len(self.classes))
        figures = precision_recall_fscore_support(self.labels, self.predicted, labels=codes, zero_division=0)
        hits = np.diag(self.confusion)
        return tuple(
            ClassScore(name, float(precision), wilson(int(hit), int(support)), float(f1), int(support))
            for name, hit, precision, _, f1, support in zip(self.classes, hits, *figures, strict=True)
        )

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes in the split."""
        return float(np.mean([score.recall.value for score in self.per_class if score.support]))

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the classes that are in the split or were predicted."""
        from sklearn.metrics import f1_score

        return float(f1_score(self.labels, self.predicted, average="macro", zero_division=0))

    @property
    def majority_class(self) -> str:
        """The split's most frequent class."""
        return self.classes[int(self.confusion.sum(axis=1).argmax())]

    @property
    def majority_accuracy(self) -> float:
        """The accuracy of always predicting the most frequent class."""
        return float(self.confusion.sum(axis=1).max() / self.n)

    @cached_property
    def log_loss(self) -> float:
        """The mean negative log-probability of the true class in nats; probabilities are clipped at 1e-7."""
        true = self.probabilities[np.arange(self.n), self.labels].astype(np.float64)
        return float(-np.log(np.clip(true, SMALLEST_PROBABILITY, 1.0)).mean())

    @cached_property
    def roc_auc(self) -> float | None:
        """The mean one-vs-rest ROC-AUC; None where the split has no image of a class, or of the other classes."""
        support = self.confusion.sum(axis=1)
        if np.any(support == 0) or np.any(support == self.n):
            return None
        is_class = [self.labels == code for code in range(len(self.classes))]
        areas = [outranked(self.probabilities[:, code], own)[own].mean() for code, own in enumerate(is_class)]
        return float(np.mean(areas))

    @cached_property
    def reliability(self) -> tuple[ReliabilityBin, ...]:
        """Fifteen equal bins of the highest probability, without the empty ones."""
        confidence = self.probabilities.max(axis=1).astype(np.float64)
        correct = self.predicted == self.labels
        place = np.minimum((confidence * BINS).astype(int), BINS - 1)
        return tuple(
            ReliabilityBin(
                b / BINS, (b + 1) / BINS, int(inside.sum()), confidence[inside].mean(), correct[inside].mean()
            )
            for b in range(BINS)
            if (inside := place == b).any()
        )

    @property
    def answers(self) -> Answers:
        """The share of images with an answer, and the share of correct answers."""
        return answers_at(self.probabilities.max(axis=1), self.predicted == self.labels, self.min_confidence)

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: the mean gap between confidence and accuracy over images."""
        return sum(part.count * abs(part.confidence - part.accuracy) for part in self.reliability) / self.n

    @property
    def statements(self) -> tuple[str, ...]:
        """Sentences that a reader of the metrics should know."""
        said = []
        if self.unseen:
            lost = sum(self.unseen.values())
            named = shortlist([f"{name}: {count}" for name, count in sorted(self.unseen.items())])
            strict = np.trace(self.confusion) / (self.n + lost)
            said.append(
                f"{lost} of {self.n + lost} images have a label that is not in the training set ({named}). The metrics "
                f"leave them out. If they count as wrong, the accuracy is {strict:.4f}."
            )
        empty = [score.name for score in self.per_class if not score.support]
        if empty:
            said.append(f"The split has no image of {shortlist(empty)}, so their recall is unknown.")
        if self.min_confidence:
            answers = self.answers
            said.append(
                f"With a minimum probability of {self.min_confidence:.3f} for the best class, "
                f"{answers.answered.value:.1%} of {self.n:,} images are answered, and {answers.right.value:.1%} of the "
                f"answers are correct (95 % interval {answers.right.low:.1%} to {answers.right.high:.1%})."
            )
        return tuple(said)

    def summary(self) -> dict[str, Any]:
        """Returns the metrics as plain values, without the rows per image."""
        return {
            "n": self.n,
            "accuracy": self.accuracy.value,
            "accuracy_low": self.accuracy.low,
            "accuracy_high": self.accuracy.high,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "log_loss": self.log_loss,
            "roc_auc": self.roc_auc,
            "calibration_error": self.calibration_error,
            "majority_accuracy": self.majority_accuracy,
            **(self.answers.summary() if self.min_confidence else {}),
        }

    def to_json(self) -> dict[str, Any]:
        """Returns everything as plain JSON values: metrics, per class, confusion, reliability, and rows per image."""
        return {
            **self.summary(),
            "classes": list(self.classes),
            "per_class": [
                {
                    "name": score.name,
                    "precision": score.precision,
                    "recall": score.recall.value,
                    "recall_low": score.recall.low,
                    "recall_high": score.recall.high,
                    "f1": score.f1,
                    "support": score.support,
                }
                for score in self.per_class
            ],
            "confusion": self.confusion.tolist(),
            "reliability": [
                {"low": b.low, "high": b.high, "count": b.count, "confidence": b.confidence, "accuracy": b.accuracy}
                for b in self.reliability
            ],
            "unseen": dict(sorted(self.unseen.items())),
            "statements": list(self.statements),
            "rows": [
                {"key": key.tobytes().hex(), "label": int(label), "probabilities": [round(float(p), 7) for p in row]}
                for key, label, row in zip(self.keys, self.labels, self.probabilities, strict=True)
            ],
        }


def evaluate(
    keys: NDArray[np.uint8], labels: Sequence[str] | ArrayLike, probabilities: ArrayLike, classes: Sequence[str]
) -> Evaluation:
    """Evaluates ``probabilities`` (n, C) against ``labels``: class names, or indices into ``classes``.

    Images with a label that is not in ``classes`` (an index of -1) are counted in ``unseen``. The metrics leave them
    out, because no prediction could be correct.
    """
    rows = np.asarray(probabilities, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != len(classes) or len(rows) != len(keys):
        raise InputError(
            f"the probabilities have the shape {rows.shape}", expected=f"({len(keys)}, {len(classes)}): keys by classes"
        )
    if not np.isfinite(rows).all():
        raise InputError("some probabilities are not finite numbers", remedy="look for NaN in the features")
    codes, unseen = _codes(labels, classes)
    if len(codes) != len(rows):
        raise InputError(f"there are {len(codes)} labels for {len(rows)} images", expected="one label per image")
    known = codes >= 0
    if not known.any():
        raise InputError(
            "no test image has a label that is in the training set"
            if len(codes)
            else "there is no labelled test image",
            expected=f"images of {shortlist(classes)}",
            remedy="use a test split with these labels",
        )
    kept = rows[known]
    return Evaluation(
        classes=tuple(classes),
        keys=np.asarray(keys, dtype=np.uint8)[known],
        labels=codes[known],
        predicted=kept.argmax(axis=1),
        probabilities=kept,
        unseen=unseen,
    )


def _codes(labels: Sequence[str] | ArrayLike, classes: Sequence[str]) -> tuple[NDArray[np.intp], dict[str, int]]:
    given = np.asarray(labels)
    if given.dtype.kind in "iu":
        if given.size and (given.min() < -1 or given.max() >= len(classes)):
            raise InputError("a label is not an index of the classes", expected=f"an index below {len(classes)}, or -1")
        codes = given.astype(np.intp)
        lost = int((codes < 0).sum())
        return codes, ({"(unnamed)": lost} if lost else {})
    places = {name: i for i, name in enumerate(classes)}
    codes = np.array([places.get(str(label), -1) for label in given], dtype=np.intp)
    names, counts = np.unique(given[codes < 0].astype(str), return_counts=True)
    return codes, {str(name): int(count) for name, count in zip(names, counts, strict=True)}
