"""Sentences on what a reader should look at first."""

from collections.abc import Mapping
from dataclasses import dataclass

from penult.pipeline.evaluation.evaluation import Evaluation
from penult.pipeline.report.charts import overconfidence_of, reliability_of, tolerance_of
from penult.pipeline.report.confusion import Matrix
from penult.pipeline.report.content import ReportContent
from penult.pipeline.words import counted, percent


@dataclass(frozen=True)
class Finding:
    """One sentence, and the part of the page that shows why. A warning is about problems of the data or the test."""

    text: str
    target: str = ""
    is_warning: bool = False


def findings_of(report: ReportContent, matrix: Matrix) -> list[Finding]:
    """Returns problems of the data or the test first, then weaknesses of the head."""
    found = [*_random_weights(report), *_problems(report), *_weaknesses(report.evaluation, matrix)]
    notes = dict.fromkeys((*report.evaluation.statements, *report.notes))  # the notes may contain the statements
    found += [Finding(text) for text in notes]
    return sorted(found, key=lambda finding: not finding.is_warning)


def _random_weights(report: ReportContent) -> list[Finding]:
    weights = report.backbone.get("weights")
    if not isinstance(weights, Mapping) or weights.get("name") != "random":
        return []
    text = "The backbone's weights are random: it was never trained, and its features are not meaningful."
    return [Finding(text, is_warning=True)]


def _problems(report: ReportContent) -> list[Finding]:
    evaluation, insights = report.evaluation, report.insights
    found = []
    if insights.leaks:
        n = len(insights.leaks)
        text = "1 image or a near duplicate of it is" if n == 1 else f"{n:,} images or near duplicates of them are"
        text += " in more than one split, so the accuracy is probably too high."
        found.append(Finding(text, "leaks", is_warning=True))
    if report.conflicts:
        n = len(report.conflicts)
        text = f"{counted(n, 'image')} {'has' if n == 1 else 'have'} two labels."
        found.append(Finding(text, "conflicts", is_warning=True))
    if insights.label_errors:
        n = len(insights.label_errors)
        text = f"{counted(n, 'image')} probably {'has' if n == 1 else 'have'} the wrong label."
        found.append(Finding(text, "label-errors", is_warning=True))
    if report.failed:
        text = f"{counted(len(report.failed), 'image')} could not be used."
        found.append(Finding(text, "failed", is_warning=True))
    if insights.near_duplicates:
        n = len(insights.near_duplicates)
        text = f"{counted(n, 'group')} of near duplicates: they add less information than their number suggests."
        found.append(Finding(text, "near-duplicates"))
    if evaluation.accuracy.low <= evaluation.majority_accuracy and len(evaluation.classes) > 1:
        text = "On this test the head is not significantly better than always predicting the most frequent class."
        found.append(Finding(text, is_warning=True))
    for baseline in report.baselines:
        if evaluation.accuracy.low <= baseline.accuracy:
            text = f"On this test the head is not significantly better than {baseline.name}."
            found.append(Finding(text, "result"))
    if evaluation.n < 100:
        text = f"The test has only {counted(evaluation.n, 'image')}; more of them would give more precise results."
        found.append(Finding(text))
    return found


def _weaknesses(evaluation: Evaluation, matrix: Matrix) -> list[Finding]:
    found = []
    mistaken = [cell for cell in matrix.pairs if cell.count > 1] or list(matrix.pairs[:1])
    if mistaken:
        worst = mistaken[0]
        total = next(score.support for score in evaluation.per_class if score.name == worst.true)
        text = f"The most frequent mistake: {worst.count} of {total:,} {worst.true} are predicted as {worst.called}."
        found.append(Finding(text, worst.anchor))
        weakest = min((score for score in evaluation.per_class if score.support), key=lambda score: score.recall.value)
        text = f"The weakest class is {weakest.name}: {percent(weakest.recall.value)} of its images are found."
        found.append(Finding(text, "classes"))
    if abs(overconfidence_of(evaluation)) > tolerance_of(evaluation):
        found.append(Finding(reliability_of(evaluation).verdict, "reliability"))
    return found
