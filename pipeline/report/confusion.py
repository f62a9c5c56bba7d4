"""The confusion matrix, and example images for its cells."""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from os import fspath

import numpy as np
from PIL import Image

from penult.pipeline.report.content import ReportContent

LARGEST_TABLE = 30
MOST_PAIRS = 40
MOST_CELLS = 300
MOST_FIGURES = 1500
PER_CELL = 12
PER_RIGHT_CELL = 6
_LEVELS = 8


@dataclass(frozen=True)
class CellImage:
    """One image of a cell, and the probability of its predicted class."""

    path: str
    probability: float


@dataclass(frozen=True)
class Cell:
    """All images with one true and one predicted class; ``images`` are those that are shown."""

    true: str
    called: str
    count: int
    level: str
    anchor: str = ""
    images: tuple[CellImage, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether the prediction is correct."""
        return self.true == self.called


@dataclass(frozen=True)
class Matrix:
    """The matrix as a table if it is small, else as a picture with the most frequent mistakes."""

    classes: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    cells: tuple[Cell, ...]
    pairs: tuple[Cell, ...]
    picture: str


def matrix_of(report: ReportContent) -> Matrix:
    """Returns the matrix of a report, with its most confident mistakes and its least confident correct images."""
    counts = report.evaluation.confusion
    classes = report.evaluation.classes
    cells = _cells_with_images(report)
    wrong = sorted((cell for cell in cells.values() if not cell.is_right), key=lambda cell: -cell.count)
    if len(classes) > LARGEST_TABLE:
        return Matrix(classes, (), tuple(cells.values()), tuple(wrong[:MOST_PAIRS]), _picture(counts))
    totals = counts.sum(axis=1)
    rows = tuple(
        tuple(cells.get((i, j)) or _bare_cell(report, (i, j), int(totals[i])) for j in range(len(classes)))
        for i in range(len(classes))
    )
    return Matrix(classes, rows, tuple(cells.values()), tuple(wrong[:MOST_PAIRS]), "")


def _bare_cell(report: ReportContent, place: tuple[int, int], total: int) -> Cell:
    i, j = place
    count = int(report.evaluation.confusion[i, j])
    classes = report.evaluation.classes
    level = min(_LEVELS, round(_LEVELS * (count / total) ** 0.6)) if count else 0
    shade = "" if not count else f"{'right' if i == j else 'wrong'}-{level}"
    return Cell(classes[i], classes[j], count, shade)


def _cells_with_images(report: ReportContent) -> dict[tuple[int, int], Cell]:
    """Returns the cells that show images: mistakes first, the most frequent ones before the others."""
    evaluation = report.evaluation
    counts = evaluation.confusion
    totals = counts.sum(axis=1)
    places = [(int(i), int(j)) for i, j in np.argwhere(counts)]
    places.sort(key=lambda place: (place[0] == place[1], -counts[place], place))
    sure = evaluation.probabilities[np.arange(evaluation.n), evaluation.predicted]
    cells, left = {}, MOST_FIGURES
    rows_of: dict[tuple[int, int], list[int]] = {}
    for row, place in enumerate(zip(evaluation.labels.tolist(), evaluation.predicted.tolist(), strict=True)):
        rows_of.setdefault(place, []).append(row)
    for i, j in places[:MOST_CELLS]:
        is_right = i == j
        rows = sorted(rows_of[i, j], key=lambda row: float(sure[row]) if is_right else -float(sure[row]))
        shown = rows[: min(left, PER_RIGHT_CELL if is_right else PER_CELL)]
        left -= len(shown)
        if not shown:
            break
        bare = _bare_cell(report, (i, j), int(totals[i]))
        images = tuple(CellImage(fspath(report.paths[row]), float(sure[row])) for row in shown)
        cells[i, j] = Cell(bare.true, bare.called, bare.count, bare.level, f"cell-{i}-{j}", images)
    return cells


def _picture(counts: "np.ndarray[tuple[int, int], np.dtype[np.intp]]") -> str:
    """Returns the matrix as a PNG data URI: blue on the diagonal, orange off it, darker for a larger share of a row."""
    share = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)) ** 0.5
    pixels = np.empty((*counts.shape, 4), np.uint8)
    pixels[:] = (196, 84, 0, 0)
    pixels[np.diag_indices(len(counts))] = (0, 98, 168, 0)
    pixels[..., 3] = np.clip(255 * share, 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    grow = max(1, 640 // len(counts))
    image = image.resize((image.width * grow, image.height * grow), Image.Resampling.NEAREST)
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"
