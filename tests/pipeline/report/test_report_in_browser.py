"""The report in a browser."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penult.pipeline.evaluation.evaluation import Evaluation, evaluate
from penult.pipeline.fit import fit
from penult.pipeline.report import (
    Before,
    CurvePoint,
    DoubtfulLabel,
    Embedding,
    GroupImage,
    ImageGroup,
    Insights,
    ReportContent,
    write_report,
)
from tests.pipeline.chromium import Chromium

CLASSES = ["ants", "<script>alert(1)</script>"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on sixty images of two classes with eleven mistakes, and every part with charts or thumbnails."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 2
    sure = np.clip(0.75 * np.eye(2)[truth] + rng.uniform(0, 0.6, (60, 2)), 0, None)
    sure[:11] = sure[:11, ::-1] + [0.2, 0.1]
    paths = []
    for number in range(60):
        path = folder / f"</script><b>{number}.png".replace("/", "\u2215")
        colour = (220, 40, 40) if truth[number] else (40, 160, 60)
        Image.new("RGB", (80, 60), colour).save(path)
        paths.append(path)
    keys = np.arange(60, dtype=np.uint8).repeat(16).reshape(60, 16)
    evaluation: Evaluation = evaluate(keys, truth, sure / sure.sum(axis=1, keepdims=True), CLASSES)
    called = [CLASSES[place] for place in evaluation.predicted]
    labels = [CLASSES[place] for place in truth]
    places = rng.normal(size=(60, 2)) + 3 * np.eye(2)[truth]
    path = folder / "report.html"
    report = ReportContent(
        title="Ants",
        evaluation=evaluation,
        paths=paths,
        head={"kind": "logistic", "n_train": 240, "seconds": 0.4, "fingerprint": "ab" * 32},
        before=[Before(paths[0], [("ant", 0.5), ("a very long name of a class, and longer still", 0.1)])],
        embedding=Embedding(places, paths, labels, called),
        command="penult fit " + "folder/" * 40,
        insights=Insights(
            leaks=[
                ImageGroup(
                    [GroupImage(paths[1], "ants", "train"), GroupImage(paths[1], "ants", "test")], "the same bytes"
                )
            ],
            label_errors=[DoubtfulLabel(paths[2], CLASSES[0], CLASSES[1], 0.9)],
            learning_curve=[CurvePoint(n, 0.6 + n / 1000, 0.5, 0.95) for n in (10, 20, 40, 80, 160, 240)],
        ),
    )
    write_report(path, report)
    return path


def test_the_page_loads_nothing_and_logs_nothing(browser: Chromium, report: Path) -> None:
    browser.resize(1200)
    browser.open(report)
    asked = {event["request"]["url"].partition(",")[0] for event in browser.said("Network.requestWillBeSent")}
    assert {url for url in asked if not url.startswith("data:image/")} == {report.as_uri()}
    assert asked > {report.as_uri()}, "the pictures are there"
    assert browser.said("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded") == []
    assert browser.said("Page.javascriptDialogOpening") == []


@pytest.mark.parametrize(
    ("attempt", "rule"),
    [
        ("fetch('https://example.org/').catch(() => 0)", "connect-src"),
        ("document.body.append(Object.assign(new Image(), {src: 'https://example.org/x.png'}))", "img-src"),
        ("document.body.append(Object.assign(document.createElement('script'), {text: '1'}))", "script-src-elem"),
        ("document.body.setAttribute('style', 'color: red')", "style-src-attr"),
    ],
)
def test_the_policy_blocks_injected_content(attempt: str, rule: str, browser: Chromium, report: Path) -> None:
    browser.open(report)
    stopped = browser.look(
        "new Promise(done => { addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));"
        f" {attempt} }})"
    )
    assert stopped == rule


def test_every_link_leads_to_a_visible_part(browser: Chromium, report: Path) -> None:
    browser.resize(1200)
    browser.open(report)
    links = browser.look("[...document.querySelectorAll('main a')].map(a => a.getAttribute('href'))")
    assert len(links) > 15
    for link in set(links):
        browser.look(f"location.hash = {link!r}")
        height = browser.look(f"document.querySelector({link!r}).getBoundingClientRect().height")
        assert height > 20, link


def test_a_cell_shows_only_its_own_images(browser: Chromium, report: Path) -> None:
    browser.open(report)
    shown = "[...document.querySelectorAll('.cell')].filter(c => c.getClientRects().length).map(c => c.id)"
    assert len(browser.look(shown)) == 1, "before a choice, the most frequent mistake"
    browser.look("document.querySelector('.matrix a[href=\"#cell-0-1\"]').click()")
    assert browser.look(shown) == ["cell-0-1"]
    counted = browser.look("document.querySelector('.matrix a[href=\"#cell-0-1\"]').textContent")
    assert browser.look("document.querySelectorAll('#cell-0-1 li').length") == int(counted)
    assert browser.look("document.querySelector('#cell-0-1 h3').textContent") == f"ants predicted as {CLASSES[1]}"


def test_the_map_shows_the_image_under_the_pointer(browser: Chromium, report: Path) -> None:
    browser.resize(1200)
    browser.open(report)
    browser.look(
        "document.documentElement.style.scrollBehavior = 'auto'; document.getElementById('map').scrollIntoView()"
    )
    dots = json.loads(browser.look("document.getElementById('dots').textContent"))
    left, top, scale = browser.look(
        "(() => { const d = document.getElementById('map-drawing'), b = d.getBoundingClientRect();"
        " return [b.left, b.top, b.width / d.viewBox.baseVal.width] })()"
    )
    assert browser.look("document.getElementById('map-tip').hidden")
    x, y, label, *_ = dots["dots"][30]
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=left + x * scale, y=top + y * scale)
    assert browser.look("document.getElementById('map-tip').hidden") is False
    assert dots["names"][label] in browser.look("document.getElementById('map-tip').textContent")
    back = "getComputedStyle(document.querySelector('#map-tip .picture')).backgroundImage"
    assert browser.look(back).startswith('url("data:image/')


def test_the_map_works_with_arrow_keys_and_a_class_filter(browser: Chromium, report: Path) -> None:
    browser.open(report)
    browser.look(
        "document.querySelectorAll('.legend button')[1].click(); document.getElementById('map-drawing').focus()"
    )
    found = set()
    for _ in range(40):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight")
        found.add(browser.look("document.querySelector('#map-tip strong').textContent"))
    assert found == {sorted(CLASSES)[1]}
    assert browser.look("document.querySelectorAll('.layer.is-faded').length") == 1


def test_the_map_is_coloured_by_mistake_without_scripts(browser: Chromium, report: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(report)
        seen = "document.querySelector('g.{}').getBoundingClientRect().width > 0"
        assert browser.look(seen.format("by-class"))
        assert not browser.look(seen.format("by-mistake"))
        browser.look("document.getElementById('map-by-mistake').checked = true")
        assert browser.look(seen.format("by-mistake"))
        assert not browser.look(seen.format("by-class"))
        assert browser.look("document.querySelector('.filter').getClientRects().length") == 0
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_mistakes_can_be_filtered_by_class(browser: Chromium, report: Path) -> None:
    browser.open(report)
    visible = "[...document.querySelectorAll('#mistake-gallery > li')].filter(i => i.getClientRects().length)"
    everything = browser.look(f"{visible}.length")
    browser.look(
        "{ const choice = document.getElementById('mistake-filter');"
        " choice.value = 'ants'; choice.dispatchEvent(new Event('change')) }"
    )
    assert set(browser.look(f"{visible}.map(i => i.dataset.true)")) == {"ants"}
    assert 0 < browser.look(f"{visible}.length") < everything == 11


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(width: int, browser: Chromium, report: Path) -> None:
    browser.resize(width)
    browser.open(report)
    assert browser.look("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(scheme: str, browser: Chromium, report: Path) -> None:
    browser.resize(1200, scheme)
    browser.open(report)
    ground = np.asarray(browser.picture()).reshape(-1, 3)[0]
    assert (ground.mean() > 128) == (scheme == "light")
    low = browser.look(CONTRAST)
    assert low == [], "below the contrast of 4.5 that small text needs"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hymenoptera", "steel_defects"])
def test_the_report_of_real_photos_opens_with_nothing_missing(
    name: str, browser: Chromium, shared_data: Path, tmp_path: Path
) -> None:
    fitted = fit(shared_data / "images" / name, tmp_path / "store", output=tmp_path)
    (page,) = tmp_path.glob("*.html")
    moved = tmp_path / "elsewhere" / "sent by mail.html"
    moved.parent.mkdir()
    page.rename(moved)
    browser.resize(390)
    browser.open(moved)
    assert browser.said("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded") == []
    assert browser.look("document.documentElement.scrollWidth") == 390
    assert browser.look("document.querySelectorAll('.broken, .left-out').length") == 0
    missing = browser.look(
        "[...document.querySelectorAll('.picture')]"
        ".filter(p => !getComputedStyle(p).backgroundImage.startsWith('url(\"data:image/')).length"
    )
    assert missing == 0
    shown = browser.look("document.body.innerText").replace("\u202f", " ")
    accuracy = fitted.trained.evaluation.accuracy
    assert f"{100 * accuracy.value:.1f} %" in shown
    for part in (
        "without training, its classes mapped to labels",
        "The most confident mistakes",
        "Apache-2.0",
        "penult train",
    ):
        assert part in shown


# Blends what lies beneath each text, and names those whose contrast (WCAG 2) is below 4.5.
CONTRAST = """(() => {
  const parse = c => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const ground = e => {
    const layers = [];
    for (; e; e = e.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(e).backgroundColor);
      layers.push([r, g, b, a]);
      if (a === 1) break;
    }
    const over = (under, [r, g, b, a]) => [r, g, b].map((v, i) => v * a + under[i] * (1 - a));
    return layers.reduceRight(over, [255, 255, 255]);
  };
  const light = c => c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const low = [];
  for (const e of document.querySelectorAll('main *, header *, footer *')) {
    const text = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!text || !e.getClientRects().length || e.closest('svg') || e.classList.contains('nought')) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) low.push(e.outerHTML.slice(0, 120));
  }
  return low;
})()"""
