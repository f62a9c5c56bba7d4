"""The report: one HTML file with the test results of a head and the problems of its images.

`write_report` writes the content that its caller fills in. `reporting.report` does both for a head of a store.
"""

from penult.pipeline.advising.advice import Advice
from penult.pipeline.advising.learning_curve import CurvePoint
from penult.pipeline.report.content import (
    Baseline,
    Before,
    ComparisonTable,
    DoubtfulLabel,
    Embedding,
    FailedImage,
    GroupImage,
    ImageGroup,
    Insights,
    ReportContent,
)
from penult.pipeline.report.embedding_map import project
from penult.pipeline.report.writing import write_report

__all__ = [
    "Advice",
    "Baseline",
    "Before",
    "ComparisonTable",
    "CurvePoint",
    "DoubtfulLabel",
    "Embedding",
    "FailedImage",
    "GroupImage",
    "ImageGroup",
    "Insights",
    "ReportContent",
    "project",
    "write_report",
]
