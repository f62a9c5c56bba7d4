"""The report: one HTML file that shows what a head is worth and what is wrong with its images."""

from penult.pipeline.advising.counsel import Advice
from penult.pipeline.advising.learning_curve import CurvePoint
from penult.pipeline.report.content import (
    Baseline,
    Before,
    Comparison,
    Embedding,
    Failure,
    Group,
    Insights,
    Report,
    Shown,
    Suspect,
)
from penult.pipeline.report.embedding_map import project
from penult.pipeline.report.writing import write_report

__all__ = [
    "Advice",
    "Baseline",
    "Before",
    "Comparison",
    "CurvePoint",
    "Embedding",
    "Failure",
    "Group",
    "Insights",
    "Report",
    "Shown",
    "Suspect",
    "project",
    "write_report",
]
