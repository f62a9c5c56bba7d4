"""Prepares a report for its template, and lists the images that need thumbnails."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from os import fspath

import numpy as np

from penult.pipeline.evaluation.bounds import bounds_of
from penult.pipeline.evaluation.evaluation import ClassScore, Evaluation
from penult.pipeline.evaluation.intervals import Interval
from penult.pipeline.report.charts import Curve, Reliability, curve_of, reliability_of
from penult.pipeline.report.confusion import Matrix, matrix_of
from penult.pipeline.report.content import Before, ImageGroup, ReportContent
from penult.pipeline.report.embedding_map import Landscape, landscape_of
from penult.pipeline.report.findings import Finding, findings_of

MOST_MISTAKES = 24
MOST_SUSPECTS = 24
MOST_GROUPS = 9
MOST_IN_GROUP = 4
MOST_BEFORE = 3
MOST_SCORES = 60
# Fields of a head's card that the report shows elsewhere, or that only programs need.
_SHOWN_ELSEWHERE = ("format", "version", "metrics", "notes")


@dataclass(frozen=True)
class Mistake:
    """A misclassified image, its true and predicted class, and the probability of each."""

    path: str
    true: str
    called: str
    probability: float
    true_probability: float


@dataclass(frozen=True)
class Bar:
    """One accuracy in the bar chart at the top."""

    name: str
    value: float
    low: float = 0.0
    high: float = 0.0
    is_own: bool = False


@dataclass(frozen=True)
class BeforeAfter:
    """One image with the predictions of the original network and of the head."""

    path: str
    truth: str
    before: tuple[tuple[str, float], ...]
    after: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Page:
    """Everything that the template shows in addition to the report."""

    bars: tuple[Bar, ...]
    answers: tuple[BeforeAfter, ...]
    findings: tuple[Finding, ...]
    mistakes: tuple[Mistake, ...]
    mistake_count: int
    matrix: Matrix
    scores: tuple[ClassScore, ...]
    reliability: Reliability
    curve: Curve | None
    landscape: Landscape | None
    bounds: Mapping[str, Interval]


def page_of(report: ReportContent) -> Page:
    """Returns the page of a report."""
    matrix = matrix_of(report)
    mistakes = _mistakes(report)
    return Page(
        bars=_bars(report),
        answers=_answers(report),
        findings=tuple(findings_of(report, matrix)),
        mistakes=mistakes[:MOST_MISTAKES],
        mistake_count=len(mistakes),
        matrix=matrix,
        scores=tuple(sorted(report.evaluation.per_class, key=lambda score: (not score.support, score.recall.value))),
        reliability=reliability_of(report.evaluation),
        curve=curve_of(report.insights.learning_curve) if report.insights.learning_curve else None,
        landscape=landscape_of(report.embedding) if report.embedding is not None and report.embedding.paths else None,
        bounds=bounds_of(report.evaluation),
    )


def pictures_of(report: ReportContent, page: Page) -> Iterator[str]:
    """Yields the images that the page shows, the most important first."""
    yield from (answer.path for answer in page.answers)
    yield from (mistake.path for mistake in page.mistakes)
    yield from (fspath(suspect.path) for suspect in report.insights.label_errors[:MOST_SUSPECTS])
    for groups in (report.conflicts, report.insights.leaks, report.insights.near_duplicates):
        yield from _pictured(groups[:MOST_GROUPS])
    yield from (image.path for cell in page.matrix.cells for image in cell.images)
    if page.landscape:
        yield from page.landscape.pictured


def _pictured(groups: Sequence[ImageGroup]) -> Iterator[str]:
    for group in groups:
        yield from (fspath(image.path) for image in group.images[:MOST_IN_GROUP])


def _mistakes(report: ReportContent) -> tuple[Mistake, ...]:
    """Returns every mistake, the most confident first."""
    evaluation = report.evaluation
    rows = np.flatnonzero(evaluation.predicted != evaluation.labels)
    sure = evaluation.probabilities[rows, evaluation.predicted[rows]]
    return tuple(
        Mistake(
            path=fspath(report.paths[row]),
            true=evaluation.classes[evaluation.labels[row]],
            called=evaluation.classes[evaluation.predicted[row]],
            probability=float(evaluation.probabilities[row, evaluation.predicted[row]]),
            true_probability=float(evaluation.probabilities[row, evaluation.labels[row]]),
        )
        for row in rows[np.argsort(-sure, kind="stable")]
    )


def _bars(report: ReportContent) -> tuple[Bar, ...]:
    evaluation = report.evaluation
    accuracy = evaluation.accuracy
    others = [Bar(f"Always {evaluation.majority_class}, the most frequent class", evaluation.majority_accuracy)]
    others += [Bar(baseline.name, baseline.accuracy) for baseline in report.baselines]
    return (Bar("This head", accuracy.value, accuracy.low, accuracy.high, is_own=True), *others)


def _answers(report: ReportContent) -> tuple[BeforeAfter, ...]:
    """Returns the first few images, with different classes first."""
    row_of = {fspath(path): row for row, path in enumerate(report.paths)}
    answers = [_answer(report.evaluation, before, row_of.get(fspath(before.path))) for before in report.before]
    known = [answer for answer in answers if answer.before]
    firsts = {answer.truth: answer for answer in reversed(known)}
    known.sort(key=lambda answer: firsts[answer.truth] is not answer)
    return tuple(known[:MOST_BEFORE])


def _answer(evaluation: Evaluation, before: Before, row: int | None) -> BeforeAfter:
    path, guesses = fspath(before.path), tuple(before.guesses)
    if row is None:
        return BeforeAfter(path, "", guesses, ())
    best = np.argsort(-evaluation.probabilities[row], kind="stable")[: max(1, len(guesses))]
    after = tuple((evaluation.classes[i], float(evaluation.probabilities[row, i])) for i in best)
    return BeforeAfter(path, evaluation.classes[evaluation.labels[row]], guesses, after)


def guessing_loss(evaluation: Evaluation) -> float:
    """Returns the log loss of equal probabilities for all classes."""
    return log(len(evaluation.classes))


def flattened(card: Mapping[str, object]) -> list[tuple[str, str]]:
    """Returns the values of a card as (name, text) pairs, with joined names for nested values.

    >>> flattened({"kind": "logistic", "params": {"C": 1.0}, "classes": ["ant", "bee"], "n_train": 4000})
    [('kind', 'logistic'), ('params C', '1'), ('classes', 'ant, bee'), ('n train', '4,000')]
    """
    rows: list[tuple[str, str]] = []
    for key, value in card.items():
        if key in _SHOWN_ELSEWHERE:
            continue
        name = str(key).replace("_", " ")
        if isinstance(value, Mapping):
            rows += [(f"{name} {inner}", text) for inner, text in flattened(value)]
        elif isinstance(value, list | tuple) and value and all(isinstance(part, Mapping) for part in value):
            for place, part in enumerate(value, 1):
                prefix = f"{name} {place}" if len(value) > 1 else name
                rows += [(f"{prefix} {inner}", text) for inner, text in flattened(part)]
        elif value is not None and not (isinstance(value, str | list | tuple) and not value):
            rows.append((name, _text(value)))
    return rows


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        shown = [str(part) for part in value[:40]]
        return ", ".join(shown) + (f" and {len(value) - 40:,} more" if len(value) > 40 else "")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
