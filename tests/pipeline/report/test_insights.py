"""The insights of a report: review and comparison."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from penult.exporters.backbone import Backbone
from penult.pipeline.cli.app import app
from penult.pipeline.fit import fit
from penult.pipeline.heads.saved_heads import saved_head
from penult.pipeline.report.insights import insights_of
from penult.store import Store, open_store
from tests.pipeline.colours import draw_colours


@pytest.fixture(scope="module")
def store(small_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Images of three colours; one is in the wrong folder, and one has a copy with one changed pixel."""
    folder = tmp_path_factory.mktemp("insights")
    collection, images = draw_colours(folder / "photos"), folder / "set"
    for split, numbers in (("train", range(8)), ("test", range(8, 10))):
        for name in ("red", "green", "blue"):
            (images / split / name).mkdir(parents=True)
            for number in numbers:
                shutil.copy(collection / name / f"{number}.png", images / split / name)
    (images / "train" / "red" / "0.png").rename(images / "train" / "blue" / "astray.png")
    with Image.open(images / "train" / "green" / "3.png") as image:
        pixels = np.asarray(image).copy()
    pixels[0, 0] += 1
    Image.fromarray(pixels).save(images / "test" / "green" / "copy.png")
    fit(images, folder / "store", backbone=small_backbone, output=folder)
    return open_store(folder / "store")


def test_insights_contain_a_wrong_label_and_a_near_duplicate(store: Store) -> None:
    found = insights_of(saved_head(store, "set-logistic"), store)
    suspects = [(Path(one.path).name, one.label, one.suggested) for one in found.label_errors]
    assert suspects == [("astray.png", "blue", "red")]
    leaks = [[Path(image.path).name for image in group.images] for group in found.leaks]
    assert any({"3.png", "copy.png"} <= set(names) for names in leaks)
    assert found.comparison is None


def test_the_report_verb_shows_insights_and_a_comparison(store: Store, tmp_path: Path) -> None:
    words = ["report", "set-logistic", "--store", str(store.path), "-o", str(tmp_path / "r.html")]
    done = CliRunner().invoke(app, [*words, "--compare"])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "r.html").read_text()
    for part in ('id="label-errors"', "blue/astray.png", 'id="leaks"', 'id="comparison"', "against the best"):
        assert part in text
    assert CliRunner().invoke(app, [*words, "--no-review"]).exit_code == 0
    text = (tmp_path / "r.html").read_text()
    assert 'id="label-errors"' not in text
    assert 'id="comparison"' not in text
