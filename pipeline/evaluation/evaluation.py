"""What a head is worth on labelled images that it has not seen, each figure with what is needed to doubt it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from penult.errors import InputError
from penult.pipeline.evaluation.abstention import Answers, answers_at
from penult.pipeline.evaluation.intervals import Interval, wilson
from penult.pipeline.evaluation.roc import area_under
from penult.pipeline.words import shortlist

__all__ = ["ClassScore", "Evaluation", "Interval", "ReliabilityBin", "evaluate"]

BINS = 15
SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class ClassScore:
    """How one class fares: of what was called so, how much is; of what is, how much was found."""

    name: str
    precision: float
    recall: Interval
    f1: float
    support: int


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions whose highest probability lies in [low, high): how sure they are, and how often right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """The predictions of one head on one split, and every figure that follows from them.

    Row i of ``probabilities`` belongs to ``keys[i]``. ``unseen`` counts the images per label that training never
    saw; they stand in none of the arrays, and ``statements`` says so. Where the best class is less probable than
    ``min_confidence`` the head is unsure; only ``answers`` leaves such images out.
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
        """The number of images that the figures rest on."""
        return len(self.labels)

    @cached_property
    def confusion(self) -> NDArray[np.intp]:
        """Counts of images by (true class, predicted class)."""
        width = len(self.classes)
        counts = np.bincount(self.labels * width + self.predicted, minlength=width * width)
        return counts.reshape(width, width)

    @cached_property
    def accuracy(self) -> Interval:
        """The share that is right, with its 95 % Wilson interval."""
        return wilson(int(np.trace(self.confusion)), self.n)

    @cached_property
    def per_class(self) -> tuple[ClassScore, ...]:
        """Precision, recall, F1 and support, a row per class."""
        right = np.diag(self.confusion)
        support, called = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        return tuple(
            ClassScore(
                name=name,
                precision=_share(right[i], called[i]),
                recall=wilson(int(right[i]), int(support[i])),
                f1=_share(2 * right[i], called[i] + support[i]),
                support=int(support[i]),
            )
            for i, name in enumerate(self.classes)
        )

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that the split holds."""
        return float(np.mean([score.recall.value for score in self.per_class if score.support]))

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the classes that the split holds or the head predicted."""
        involved = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) > 0
        return float(np.mean([score.f1 for score, there in zip(self.per_class, involved, strict=True) if there]))

    @property
    def majority_class(self) -> str:
        """The split's most frequent class."""
        return self.classes[int(self.confusion.sum(axis=1).argmax())]

    @property
    def majority_accuracy(self) -> float:
        """What calling every image by the split's most frequent class would reach."""
        return float(self.confusion.sum(axis=1).max() / self.n)

    @cached_property
    def log_loss(self) -> float:
        """The mean negative log-probability of the true class, in nats; a probability counts as 1e-7 at least."""
        true = self.probabilities[np.arange(self.n), self.labels].astype(np.float64)
        return float(-np.log(np.clip(true, SMALLEST_PROBABILITY, 1.0)).mean())

    @cached_property
    def roc_auc(self) -> float | None:
        """The mean over classes of one-against-rest ROC-AUC; None where a class or its rest is empty in the split."""
        support = self.confusion.sum(axis=1)
        if np.any(support == 0) or np.any(support == self.n):
            return None
        return float(
            np.mean([area_under(self.probabilities[:, c], self.labels == c) for c in range(len(self.classes))])
        )

    @cached_property
    def reliability(self) -> tuple[ReliabilityBin, ...]:
        """Fifteen equal bins of the highest probability; empty ones are left out."""
        confidence = self.probabilities.max(axis=1).astype(np.float64)
        right = self.predicted == self.labels
        place = np.minimum((confidence * BINS).astype(int), BINS - 1)
        return tuple(
            ReliabilityBin(b / BINS, (b + 1) / BINS, int(inside.sum()), confidence[inside].mean(), right[inside].mean())
            for b in range(BINS)
            if (inside := place == b).any()
        )

    @property
    def answers(self) -> Answers:
        """How many images are answered where the unsure ones are not, and how often rightly."""
        return answers_at(self.probabilities.max(axis=1), self.predicted == self.labels, self.min_confidence)

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: how far confidence and accuracy lie apart, averaged over images."""
        return sum(part.count * abs(part.confidence - part.accuracy) for part in self.reliability) / self.n

    @property
    def statements(self) -> tuple[str, ...]:
        """What a reader of the figures has to know, in sentences."""
        said = []
        if self.unseen:
            lost = sum(self.unseen.values())
            named = shortlist([f"{name}: {count}" for name, count in sorted(self.unseen.items())])
            strict = np.trace(self.confusion) / (self.n + lost)
            said.append(
                f"{lost} of {self.n + lost} images bear a label that training never saw ({named}); every figure "
                f"leaves them out. With them counted as wrong the accuracy is {strict:.4f}."
            )
        empty = [score.name for score in self.per_class if not score.support]
        if empty:
            said.append(f"No image of {shortlist(empty)} is in this split, so nothing is known of their recall.")
        if self.min_confidence:
            answers = self.answers
            said.append(
                f"Where images whose best class is less probable than {self.min_confidence:.3f} are called unsure, "
                f"{answers.answered.value:.1%} of these {self.n:,} are answered, and {answers.right.value:.1%} of the "
                f"answers are right (95 % interval {answers.right.low:.1%} to {answers.right.high:.1%})."
            )
        return tuple(said)

    def summary(self) -> dict[str, Any]:
        """Returns the figures as plain values, without the per-image rows."""
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
        """Returns everything as plain JSON values: figures, per class, confusion, reliability, and the rows."""
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
    """Scores ``probabilities`` (n, C) against ``labels``, which are class names, or indices into ``classes``.

    Images under a label that is not among ``classes`` (an index of -1) are counted in ``unseen`` and stand in no
    figure: no prediction of theirs could be right.
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
            "no image of the evaluation split bears a label that training saw"
            if len(codes)
            else "the evaluation split holds no labelled image",
            expected=f"images of {shortlist(classes)}",
            remedy="give a test split with these labels",
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
            raise InputError("a label lies outside the classes", expected=f"an index below {len(classes)}, or -1")
        codes = given.astype(np.intp)
        lost = int((codes < 0).sum())
        return codes, ({"(unnamed)": lost} if lost else {})
    places = {name: i for i, name in enumerate(classes)}
    codes = np.array([places.get(str(label), -1) for label in given], dtype=np.intp)
    names, counts = np.unique(given[codes < 0].astype(str), return_counts=True)
    return codes, {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def _share(part: np.intp, whole: np.intp) -> float:
    return float(part / whole) if whole else 0.0
