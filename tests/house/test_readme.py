"""The README tells the truth: its commands and its Python run, and print what it shows."""

import re
import shlex
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pytest

from penult.pipeline.demo.drawings import CLASSES, draw_collection
from tests.pipeline.command_line import penult

# How many images the demo draws for a class, to train on and to test. Most of its time goes into them, and nothing that
# is compared here depends on their number.
FEW, AS_SHOWN = (16, 8), (40, 20)
SHARE = re.compile(r"# \w+$")
BLOCK = re.compile(r"<!-- run -->\n```(console|python)\n(.*?)```", re.DOTALL)


def _blocks(project: Path) -> dict[str, str]:
    return dict(BLOCK.findall((project / "README.md").read_text()))


def _masked(text: str) -> list[str]:
    """Leaves the words and drops what differs between machines: figures, folders, widths, less probable classes."""
    text = re.sub(r"[^ \"]*/penult-demo/", "penult-demo/", text)
    without_figures = re.sub(r"\d[\d.,:%/+TZ-]*( (min|s|h|images/s))*", "#", text)
    lines = [" ".join(line.split()) for line in without_figures.splitlines() if line.strip(" ─")]
    return [line for before, line in pairwise(["", *lines]) if not (SHARE.match(before) and SHARE.match(line))]


def _run(command: str, room: Path) -> str:
    name, *words = shlex.split(command.removesuffix(" 2> progress.log"))
    assert name == "penult"
    done = penult(*words, cwd=room)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@pytest.mark.parametrize("images", [FEW, pytest.param(AS_SHOWN, marks=pytest.mark.slow)])
def test_the_session_is_real_and_so_is_the_python_after_it(
    images: tuple[int, int], project: Path, tmp_path: Path
) -> None:
    shown = re.split(r"^\$ (.*)\n", _blocks(project)["console"], flags=re.MULTILINE)[1:]
    assert len(shown) >= 8
    drawn = partial(draw_collection, per_class_train=images[0], per_class_test=images[1])
    with mock.patch("penult.pipeline.demo.demo.draw_collection", drawn):
        for command, output in zip(shown[::2], shown[1::2], strict=True):
            assert _masked(_run(command, tmp_path)) == _masked(output), command

    command = [sys.executable, "-W", "error", "-c", _blocks(project)["python"]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match(r"[01]\.\d+ \[0\.\d+, [01]\.\d+\]", done.stdout)
    assert f"({len(CLASSES) * sum(images)}, 1280) float32" in done.stdout
    assert done.stdout.count("screw") >= images[1]


def test_the_readme_names_every_verb_and_leads_nowhere_else(project: Path) -> None:
    from penult.pipeline.cli.app import VERBS

    text = (project / "README.md").read_text()
    for verb in VERBS:
        assert f"`penult {verb}" in text or f"`{verb}" in text, verb
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (project / link).exists(), link
