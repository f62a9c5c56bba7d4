"""The README tells the truth: its commands and its Python run, and print what it shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PENULT = Path(sys.executable).with_name("penult")
BLOCK = re.compile(r"<!-- run -->\n```(console|python)\n(.*?)```", re.DOTALL)


def _blocks(project: Path) -> dict[str, str]:
    return dict(BLOCK.findall((project / "README.md").read_text()))


def _masked(text: str) -> list[str]:
    """Leaves the words and drops what differs between machines and days: figures, folders, widths of columns."""
    text = re.sub(r"[^ \"]*/penult-demo/", "penult-demo/", text)
    without_figures = re.sub(r"\d[\d.,:%/+TZ-]*( (min|s|h|images/s))*", "#", text)
    return [" ".join(line.split()) for line in without_figures.splitlines() if line.strip(" ─")]


def _run(command: str, room: Path) -> str:
    assert command.startswith("penult ")
    done = subprocess.run(f"{PENULT}{command[6:]}", shell=True, cwd=room, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr, (room / "progress.log").read_text())
    return done.stdout


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def test_the_session_is_real(project: Path, room: Path) -> None:
    shown = re.split(r"^\$ (.*)\n", _blocks(project)["console"], flags=re.MULTILINE)[1:]
    assert len(shown) >= 8
    for command, output in zip(shown[::2], shown[1::2], strict=True):
        assert _masked(_run(command, room)) == _masked(output), command


def test_the_python_is_real(project: Path, room: Path) -> None:
    """Goes on in the folder that the session left, as a reader would."""
    code = _blocks(project)["python"]
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=room, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match(r"0\.\d+ \[0\.\d+, [01]\.\d+\]", done.stdout)
    assert "(300, 1280) float32" in done.stdout
    assert done.stdout.count("screw") >= 20


def test_the_readme_names_every_verb_and_leads_nowhere_else(project: Path) -> None:
    from penult.pipeline.cli.app import VERBS

    text = (project / "README.md").read_text()
    for verb in VERBS:
        assert f"`penult {verb}" in text or f"`{verb}" in text, verb
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (project / link).exists(), link
