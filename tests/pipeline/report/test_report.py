import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penult.errors import InputError
from penult.pipeline.evaluation.evaluation import Evaluation, evaluate
from penult.pipeline.report import (
    Advice,
    Baseline,
    Before,
    ComparisonTable,
    CurvePoint,
    DoubtfulLabel,
    Embedding,
    FailedImage,
    GroupImage,
    ImageGroup,
    Insights,
    ReportContent,
    project,
    write_report,
)

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
OPTIONAL_PARTS = {
    "before", "label-errors", "conflicts", "leaks", "near-duplicates", "failed", "curve", "map", "comparison", "advice",
    "origin",
}  # fmt: skip
NASTY = "<script>alert(1)</script>\"'&{{'un'+'safe'}}</style></script><!--"


class Page(HTMLParser):
    """Parses a page, and checks that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in <{tag}>"
        values = {name: value or "" for name, value in attrs}
        self.attributes += values.items()
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "a":
            self.links.append(values["href"])
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text).replace("\u202f", " "))


def scored(truth: list[int], sureness: list[list[float]], classes: list[str]) -> Evaluation:
    keys = np.arange(16 * len(truth), dtype=np.uint8).reshape(-1, 16)
    return evaluate(keys, np.array(truth), np.array(sureness, dtype=np.float32), classes)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten small images of two classes; one is broken and one is missing."""
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for number in range(10):
        path = folder / ("ants" if number < 5 else "bees") / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        if number == 8:
            path.write_bytes(b"\x89PNG but not for long")
        elif number != 9:
            Image.new("RGB", (60, 40), (20 * number, 90, 200 - 20 * number)).save(path)
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Seven correct predictions, three wrong ones: image 1 is predicted as bees, 8 and 9 as ants."""
    truth = [0] * 5 + [1] * 5
    ants = [0.9, 0.2, 0.8, 0.7, 0.95, 0.1, 0.3, 0.2, 0.85, 0.6]
    return scored(truth, [[p, 1 - p] for p in ants], ["ants", "bees"])


def written(tmp_path: Path, report: ReportContent) -> Page:
    path = tmp_path / "report.html"
    write_report(path, report)
    return Page(path.read_text(encoding="utf-8"))


def full(paths: list[Path], evaluation: Evaluation) -> ReportContent:
    return ReportContent(
        title="Ants and bees",
        evaluation=evaluation,
        paths=paths,
        head={"kind": "logistic", "params": {"C": 1.0}, "n_train": 1234, "seconds": 0.41, "classes": ["ants", "bees"]},
        command="penult fit photos",
        baselines=[Baseline("The original network", 0.3)],
        before=[Before(paths[0], [("ant", 0.4), ("fly", 0.2)])],
        receipt={"found": 10, "failed": 1},
        notes=["A note of the caller."],
        failed=[FailedImage("/home/ann/photos/train/ants/broken.gif", "the image is truncated")],
        conflicts=[
            ImageGroup([GroupImage(paths[2], "ants", "train"), GroupImage(paths[6], "bees", "train")], "the same bytes")
        ],
        embedding=Embedding(np.arange(20.0).reshape(10, 2), paths, ["ants"] * 5 + ["bees"] * 5, ["ants", "bees"] * 5),
        insights=Insights(
            leaks=[ImageGroup([GroupImage(paths[3], "ants", "train"), GroupImage(paths[3], "ants", "test")])],
            near_duplicates=[
                ImageGroup([GroupImage(paths[4], "ants"), GroupImage(paths[5], "bees")], "similarity 0.99")
            ],
            label_errors=[DoubtfulLabel(paths[7], "bees", "ants", 0.93, "train")],
            learning_curve=[
                CurvePoint(10, 0.5, 0.4, 0.6),
                CurvePoint(40, 0.7, 0.6, 0.8),
                CurvePoint(80, 0.9, 0.85, 0.95),
            ],
            comparison=ComparisonTable(
                ["features", "accuracy"], [["penultimate", 0.91], ["stage5", 0.88]], 0, "Five folds."
            ),
            advice=[Advice("Check the labels.", "One of ten is suspect.")],
        ),
    )


def test_a_minimal_report_shows_only_the_result(tmp_path: Path, photos: list[Path], evaluation: Evaluation) -> None:
    page = written(tmp_path, ReportContent("Ants", evaluation, photos))
    assert {"result", "mistakes", "confusion", "classes", "reliability"} <= set(page.ids)
    assert not OPTIONAL_PARTS & set(page.ids)
    assert "70.0 %" in page.words
    assert "7 of 10 test images predicted correctly, 3 not." in page.words
    low, high = evaluation.accuracy.low, evaluation.accuracy.high
    assert f"between {100 * low:.1f} % and {100 * high:.1f} %" in page.words


def test_a_full_report_has_every_part_and_no_dead_link(
    tmp_path: Path, photos: list[Path], evaluation: Evaluation
) -> None:
    page = written(tmp_path, full(photos, evaluation))
    assert set(page.ids) >= OPTIONAL_PARTS
    assert len(page.ids) == len(set(page.ids))
    assert page.links
    for link in page.links:
        assert link[0] == "#"
        assert link[1:] in page.ids


@pytest.mark.parametrize(
    "said",
    [
        "1,234",
        "penult fit photos",
        "params C1",
        "A note of the caller.",
        "The original network30.0 %",
        "ants/broken.gifthe image is truncated",
        "1 image has two labels.",
        "1 image or a near duplicate of it is in more than one split",
        "1 image probably has the wrong label.",
        "1 image could not be used.",
        "From 40 to 80 training images the accuracy rose by 20.0 points. The curve is still rising",
        "looks like ants 93 %",
        "similarity 0.99",
        "Check the labels.",
        "The test has only 10 images",
        "The most frequent mistake: 2 of 5 bees are predicted as ants.",
        "The weakest class is bees: 60.0 % of its images are found.",
    ],
)
def test_a_full_report_contains_the_text(said: str, tmp_path: Path, photos: list[Path], evaluation: Evaluation) -> None:
    assert said in written(tmp_path, full(photos, evaluation)).words


def test_random_weights_are_reported(tmp_path: Path, photos: list[Path], evaluation: Evaluation) -> None:
    warning = "The backbone's weights are random"
    report = full(photos, evaluation)
    assert warning not in written(tmp_path, report).words
    drawn = replace(report, backbone={"name": "resnet18-random", "weights": {"name": "random"}})
    assert warning in written(tmp_path, drawn).words


def test_a_report_contains_no_path_of_a_home_folder(tmp_path: Path, photos: list[Path], evaluation: Evaluation) -> None:
    write_report(tmp_path / "report.html", full(photos, evaluation))
    text = (tmp_path / "report.html").read_text()
    assert "/home/ann" not in text
    assert str(photos[0].parent.parent) not in text


def test_cells_contain_the_images_of_that_mistake(tmp_path: Path, photos: list[Path], evaluation: Evaluation) -> None:
    write_report(tmp_path / "report.html", ReportContent("Ants", evaluation, photos))
    text = (tmp_path / "report.html").read_text()
    cells = dict(re.findall(r'<section id="(cell-\d-\d)"(.*?)</section>', text, re.DOTALL))
    names = {anchor: re.findall(r"<bdi>(\d\.png)</bdi>", cell) for anchor, cell in cells.items()}
    assert names == {
        "cell-0-0": ["3.png", "2.png", "0.png", "4.png"],
        "cell-0-1": ["1.png"],
        "cell-1-0": ["8.png", "9.png"],
        "cell-1-1": ["6.png", "7.png", "5.png"],
    }


def test_the_most_confident_mistake_comes_first(tmp_path: Path, photos: list[Path], evaluation: Evaluation) -> None:
    write_report(tmp_path / "report.html", ReportContent("Ants", evaluation, photos))
    gallery = (tmp_path / "report.html").read_text().split('id="mistake-gallery"')[1].split("</ul>")[0]
    assert re.findall(r"<bdi>(\d\.png)</bdi>", gallery) == ["8.png", "1.png", "9.png"]


def test_broken_and_missing_images_give_placeholders(
    tmp_path: Path, photos: list[Path], evaluation: Evaluation
) -> None:
    write_report(tmp_path / "report.html", ReportContent("Ants", evaluation, photos))
    text = (tmp_path / "report.html").read_text()
    assert len(re.findall(r'class="picture broken"[^>]*aria-label="[^"]*bees/8.png \(unreadable\)"', text)) == 2
    assert len(re.findall(r'class="picture broken"[^>]*aria-label="[^"]*bees/9.png \(unreadable\)"', text)) == 2
    assert len(re.findall(r"background-image:url\(data:image/", text)) == 8
    assert "2 images could not be read for a thumbnail." in text


def test_hard_images_never_stop_a_report(tmp_path: Path, shared_data: Path) -> None:
    paths = sorted(path for path in (shared_data / "images" / "hard").rglob("*") if path.is_file())[:200]
    rows = [[0.2, 0.8]] * len(paths)
    page = written(tmp_path, ReportContent("Hard", scored([0] * len(paths), rows, ["a", "b"]), paths))
    assert "Hard" in page.words


def test_a_test_without_mistakes(tmp_path: Path, photos: list[Path]) -> None:
    evaluation = scored([0] * 5 + [1] * 5, [[0.9, 0.1]] * 5 + [[0.2, 0.8]] * 5, ["ants", "bees"])
    page = written(tmp_path, ReportContent("Ants", evaluation, photos))
    assert "All 10 test images predicted correctly." in page.words
    assert "No mistakes among 10 test images." in page.words
    assert "The most frequent mistake" not in page.words
    assert "100 %" in page.words


def test_names_and_labels_are_escaped_everywhere(tmp_path: Path) -> None:
    folder = tmp_path / NASTY.replace("/", "_")
    folder.mkdir()
    paths = []
    for number in range(4):
        path = folder / f"{number}<img src=x onerror=alert(2)>.png"
        Image.new("RGB", (30, 30), (60 * number, 0, 0)).save(path)
        paths.append(path)
    evaluation = scored([0, 0, 1, 1], [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]], [NASTY, "b"])
    shown = [GroupImage(path, NASTY, NASTY) for path in paths[:2]]
    report = ReportContent(
        title=NASTY,
        evaluation=evaluation,
        paths=paths,
        head={"kind": NASTY, NASTY: NASTY, "n_train": NASTY, "created": NASTY, "seconds": NASTY},
        command=NASTY,
        baselines=[Baseline(NASTY, 0.5)],
        before=[Before(paths[0], [(NASTY, 0.5)])],
        receipt={NASTY: {NASTY: [NASTY]}},
        notes=[NASTY],
        failed=[FailedImage(f"a/{NASTY}", NASTY)],
        conflicts=[ImageGroup(shown, NASTY)],
        embedding=Embedding(np.eye(4)[:, :2], paths, [NASTY] * 4, [NASTY, "b"] * 2, NASTY),
        insights=Insights(
            leaks=[ImageGroup(shown, NASTY)],
            near_duplicates=[ImageGroup(shown, NASTY)],
            label_errors=[DoubtfulLabel(paths[0], NASTY, NASTY, 0.5, NASTY)],
            comparison=ComparisonTable([NASTY], [[NASTY]], 0, NASTY),
            advice=[Advice(NASTY, NASTY)],
        ),
    )
    page = written(tmp_path / "out", report)
    assert len(page.scripts) == 2, "the page's own script and its data, and no other"
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.tags.count("style") == 2
    assert "unsafe" not in page.words, "nothing that a stranger wrote is run as a template"
    assert page.words.count("<script>alert(1)</script>") > 20


def test_characters_that_html_forbids_are_replaced(tmp_path: Path, evaluation: Evaluation) -> None:
    paths = [f"/x/{number}\x00\x08\udcff.png" for number in range(10)]
    embedding = Embedding(np.zeros((10, 2)), paths, ["a\udcff"] * 10)
    write_report(tmp_path / "report.html", ReportContent("a\x07b\udcff", evaluation, paths, embedding=embedding))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text)


def test_the_policy_allows_only_the_content_of_the_file(
    tmp_path: Path, photos: list[Path], evaluation: Evaluation
) -> None:
    page = written(tmp_path, full(photos, evaluation))
    policies = [value for name, value in page.attributes if name == "content" and "default-src" in value]
    assert len(policies) == 1
    rules = dict(rule.split(" ", 1) for rule in policies[0].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policies[0]
    assert not [value for name, value in page.attributes if name in ("src", "href") and "//" in value]
    assert "style" not in dict(page.attributes), "a style attribute would be refused"


def test_ten_thousand_images_stay_under_five_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n, width = 10_000, 100
    for number in range(40):  # noise compresses worst
        noise = Image.fromarray(rng.integers(0, 256, (240, 320, 3), np.uint8))
        noise.save(tmp_path / f"{number}.jpg", quality=90)
    # Each path is one of its own, so that each asks for a thumbnail of its own.
    paths = [f"{tmp_path}{'/.' * (number // 40)}/{number % 40}.jpg" for number in range(n)]
    truth = rng.integers(0, width, n)
    sure = rng.random((n, width)) + 0.95 * np.eye(width)[truth]
    names = [f"class {number} of a hundred" for number in range(width)]
    evaluation = evaluate(np.zeros((n, 16), np.uint8), truth, sure / sure.sum(axis=1, keepdims=True), names)
    labels = [names[label] for label in truth]
    embedding = Embedding(rng.normal(size=(n, 2)), paths, labels, [names[label] for label in evaluation.predicted])
    write_report(tmp_path / "report.html", ReportContent("Many", evaluation, paths, embedding=embedding))
    size = (tmp_path / "report.html").stat().st_size
    assert 2_500_000 < size < 5_000_000
    assert "no thumbnail" in (tmp_path / "report.html").read_text()


def test_many_classes_become_a_picture_and_a_list(tmp_path: Path, photos: list[Path]) -> None:
    truth = [number % 5 for number in range(10)]
    sureness = np.full((10, 40), 0.01)
    sureness[np.arange(10), [1, 1, 2, 3, 4, 1, 1, 2, 3, 4]] = 0.6
    evaluation = scored(truth, sureness.tolist(), [f"class{number}" for number in range(40)])
    page = written(tmp_path, ReportContent("Many", evaluation, photos))
    assert page.tags.count("img") == 1
    assert "The most frequent mistakes" in page.words
    assert "class0class12" in page.words
    assert "#cell-0-1" in page.links


def test_a_new_report_replaces_the_old_one(tmp_path: Path, photos: list[Path], evaluation: Evaluation) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(path, ReportContent("First", evaluation, photos))
    write_report(path, ReportContent("Second", evaluation, photos))
    assert "Second" in path.read_text()
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_a_failed_write_keeps_the_old_report(
    tmp_path: Path, photos: list[Path], evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    write_report(path, ReportContent("First", evaluation, photos))

    def refuse(self: Path, target: Path) -> Path:
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="the disk is full"):
        write_report(path, ReportContent("Second", evaluation, photos))
    assert "First" in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda report, paths: ReportContent("x", report, paths[:3]), "3 paths for 10 evaluated images"),
        (lambda report, paths: Embedding(np.zeros((3, 2)), paths, ["a"] * 10), "coordinates of the shape"),
        (lambda report, paths: Embedding(np.full((10, 2), np.nan), paths, ["a"] * 10), "not finite"),
        (lambda report, paths: CurvePoint(0, 0.5, 0.4, 0.6), "a point at 0 images"),
    ],
)
def test_contradictory_content_raises_an_error(
    wrong: Callable[..., Any], message: str, photos: list[Path], evaluation: Evaluation
) -> None:
    with pytest.raises(InputError, match=message):
        wrong(evaluation, photos)


@pytest.mark.parametrize("shape", [(50, 8), (8, 50), (1, 5), (5, 1), (2, 2)])
def test_project_returns_the_first_two_principal_components(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(1).normal(size=shape) * np.linspace(5, 1, shape[1])
    placed = project(rows)
    centred = rows - rows.mean(axis=0)
    spread = np.linalg.svd(centred, compute_uv=False)
    expected = np.pad(spread[:2], (0, max(0, 2 - len(spread))))
    assert placed.shape == (shape[0], 2)
    np.testing.assert_allclose(np.linalg.norm(placed, axis=0), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(placed, project(rows))


def test_before_and_after_shows_different_classes_first(
    tmp_path: Path, photos: list[Path], evaluation: Evaluation
) -> None:
    before = [Before(photos[place], [("fly", 0.5)]) for place in (0, 1, 2, 6)]
    before.append(Before(photos[5], []))
    write_report(tmp_path / "report.html", ReportContent("Ants", evaluation, photos, before=before))
    section = (tmp_path / "report.html").read_text().split('id="before"')[1].split("</section>")[0]
    assert re.findall(r"<bdi>(\d\.png)</bdi>", section) == ["0.png", "6.png", "1.png"]
