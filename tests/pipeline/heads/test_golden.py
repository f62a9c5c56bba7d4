"""Heads of earlier versions load with unchanged predictions; their files are in `golden_heads`.

Each folder is one format version. It contains heads that `train` saved, with rows and the probabilities for them. A new
format adds a folder; existing folders never change.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from penult.errors import HeadError
from penult.pipeline.heads.head import Head

GOLDEN = Path(__file__).with_name("golden_heads")
SAVED = sorted(path.parent for path in GOLDEN.glob("*/*/card.json"))


@pytest.mark.parametrize("folder", SAVED, ids=lambda folder: "-".join(folder.parts[-2:]))
def test_an_old_head_gives_the_same_probabilities(folder: Path, tmp_path: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    head = Head.load(folder)
    rows = np.array(expected["features"], np.float32)
    np.testing.assert_allclose(head.predict_proba(rows), expected["probabilities"], atol=2e-6)
    assert head.card.classes == ("<wasps>", "ants", "bees")
    assert head.card.kind == folder.name
    again = Head.load(head.save(tmp_path / "again"))
    assert again.card == head.card
    np.testing.assert_array_equal(again.predict_proba(rows), head.predict_proba(rows))


def test_every_format_has_golden_heads() -> None:
    assert {path.parent.name for path in SAVED} >= {"1.0"}
    assert len(SAVED) >= 4


def test_the_error_for_a_later_format_names_its_version(tmp_path: Path) -> None:
    shutil.copytree(SAVED[0], tmp_path / "head")
    card = json.loads((tmp_path / "head" / "card.json").read_text())
    card["version"]["major"] += 1
    (tmp_path / "head" / "card.json").write_text(json.dumps(card))
    with pytest.raises(HeadError, match=r"is a head of version 2\. Expected: version 1\. .*upgrade penult"):
        Head.load(tmp_path / "head")
