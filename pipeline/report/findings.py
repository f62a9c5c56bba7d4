"""What a reader should look at first, said in sentences."""

from collections.abc import Mapping
from dataclasses import dataclass

from penult.pipeline.evaluation.evaluation import Evaluation
from penult.pipeline.report.charts import lean_of, reliability_of, tolerance_of
from penult.pipeline.report.confusion import Matrix
from penult.pipeline.report.content import Report
from penult.pipeline.words import counted, percent


@dataclass(frozen=True)
class Finding:
    """One sentence and the part of the page that shows why; a warning casts doubt on the figures or the data."""

    text: str
    target: str = ""
    is_warning: bool = False


def findings_of(report: Report, matrix: Matrix) -> list[Finding]:
    """Returns what casts doubt on the data or the figures first, then where the head is weak."""
    found = [*_drawn(report), *_doubts(report), *_weaknesses(report.evaluation, matrix)]
    told = dict.fromkeys((*report.evaluation.statements, *report.notes))  # the notes may hold the statements
    found += [Finding(text) for text in told]
    return sorted(found, key=lambda finding: not finding.is_warning)


def _drawn(report: Report) -> list[Finding]:
    weights = report.backbone.get("weights")
    if not isinstance(weights, Mapping) or weights.get("name") != "random":
        return []
    text = "The backbone's weights are random: it was never trained, and the features show its architecture alone."
    return [Finding(text, is_warning=True)]


def _doubts(report: Report) -> list[Finding]:
    evaluation = report.evaluation
    found = []
    if report.leaks:
        n = len(report.leaks)
        text = "1 image, or a near copy of it, stands" if n == 1 else f"{n:,} images, or near copies of them, stand"
        text += " in more than one split, so the accuracy is flattered."
        found.append(Finding(text, "leaks", is_warning=True))
    if report.conflicts:
        n = len(report.conflicts)
        text = f"{counted(n, 'image')} {'stands' if n == 1 else 'stand'} under two labels."
        found.append(Finding(text, "conflicts", is_warning=True))
    if report.label_errors:
        n = len(report.label_errors)
        text = f"{counted(n, 'image')} probably {'bears' if n == 1 else 'bear'} the wrong label."
        found.append(Finding(text, "label-errors", is_warning=True))
    if report.failed:
        text = f"{counted(len(report.failed), 'image')} could not be used."
        found.append(Finding(text, "failed", is_warning=True))
    if report.near_duplicates:
        n = len(report.near_duplicates)
        text = f"{counted(n, 'group')} of nearly identical images {'adds' if n == 1 else 'add'} less than they seem to."
        found.append(Finding(text, "near-duplicates"))
    if evaluation.accuracy.low <= evaluation.majority_accuracy and len(evaluation.classes) > 1:
        text = "On this test the head is not surely better than always naming the most frequent class."
        found.append(Finding(text, is_warning=True))
    for baseline in report.baselines:
        if evaluation.accuracy.low <= baseline.accuracy:
            text = f"On this test the head is not surely better than {baseline.name}."
            found.append(Finding(text, "result"))
    if evaluation.n < 100:
        text = f"The test has only {counted(evaluation.n, 'image')}; more of them would make the figures surer."
        found.append(Finding(text))
    return found


def _weaknesses(evaluation: Evaluation, matrix: Matrix) -> list[Finding]:
    found = []
    mistaken = [cell for cell in matrix.pairs if cell.count > 1] or list(matrix.pairs[:1])
    if mistaken:
        worst = mistaken[0]
        total = next(score.support for score in evaluation.per_class if score.name == worst.true)
        text = f"The most frequent mistake: {worst.count} of {total:,} {worst.true} are called {worst.called}."
        found.append(Finding(text, worst.anchor))
        weakest = min((score for score in evaluation.per_class if score.support), key=lambda score: score.recall.value)
        text = f"The weakest class is {weakest.name}: {percent(weakest.recall.value)} of its images are found."
        found.append(Finding(text, "classes"))
    if abs(lean_of(evaluation)) > tolerance_of(evaluation):
        found.append(Finding(reliability_of(evaluation).verdict, "reliability"))
    return found
