"""The files around the code agree with it: versions, make targets, hooks and pinned dependencies."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import penult

# These extras are not part of the development environment, which constraints.txt is made from.
UNPINNED_EXTRAS = {"gs", "umap"}


@pytest.fixture(scope="module")
def pyproject(project: Path) -> dict[str, Any]:
    return tomllib.loads((project / "pyproject.toml").read_text())


def _make_targets(project: Path) -> dict[str, str]:
    """Returns the named targets of the Makefile with their recipes."""
    text = (project / "Makefile").read_text()
    return dict(re.findall(r"^([\w-]+):(?!=)[^\n]*\n((?:\t[^\n]*\n?)*)", text, re.MULTILINE))


def _library(requirement: str) -> str:
    """Returns the normalised name of the library in a requirement."""
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_the_version_is_defined_once(project: Path, pyproject: dict[str, Any]) -> None:
    assert "version" not in pyproject["project"]
    assert pyproject["project"]["dynamic"] == ["version"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "penult.__version__"}
    # setuptools reads the version from the source text only if it is a plain assignment.
    assert f'\n__version__ = "{penult.__version__}"\n' in (project / "src" / "penult" / "__init__.py").read_text()


def test_the_changelog_has_the_version_and_a_section_for_the_next(project: Path) -> None:
    headings = re.findall(r"^## \[([^\]]+)\]", (project / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert penult.__version__ == headings[1]


def test_each_heading_of_the_changelog_has_a_link(project: Path) -> None:
    text = (project / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[([^\]]+)\]", text, re.MULTILINE)
    assert re.findall(r"^\[([^\]]+)\]: https://", text, re.MULTILINE) == headings


def test_the_citation_has_the_version_and_licence_of_the_package(project: Path, pyproject: dict[str, Any]) -> None:
    fields = dict(re.findall(r"^([\w-]+): (.+)$", (project / "CITATION.cff").read_text(), re.MULTILINE))
    assert fields["version"] == penult.__version__
    assert fields["license"] == pyproject["project"]["license"]
    assert fields["repository-code"] == pyproject["project"]["urls"]["Source"]
    released = re.findall(
        rf"^## \[{re.escape(penult.__version__)}\] - (\S+)$", (project / "CHANGELOG.md").read_text(), re.M
    )
    assert released == [fields["date-released"]]


def test_the_workflow_calls_make_targets_that_exist(project: Path) -> None:
    text = (project / ".github" / "workflows" / "ci.yml").read_text()
    called = re.findall(r"\bmake ([\w-]+)", text)
    assert {"check", "test"} <= set(called)
    assert set(called) <= set(_make_targets(project))


def test_the_workflow_pins_actions_by_major_version(project: Path) -> None:
    used = re.findall(r"uses: (\S+)", (project / ".github" / "workflows" / "ci.yml").read_text())
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", action) for action in used)


def test_the_workflow_tests_the_oldest_python(project: Path, pyproject: dict[str, Any]) -> None:
    text = (project / ".github" / "workflows" / "ci.yml").read_text()
    (listed,) = re.findall(r"^ +python: \[(.*)\]$", text, re.MULTILINE)
    oldest = re.findall(r'"([\d.]+)"', listed)[0]
    assert pyproject["project"]["requires-python"] == f">={oldest}"


def test_pre_commit_runs_what_make_check_runs(project: Path) -> None:
    entries = re.findall(r"^ +entry: (.+)$", (project / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    commands = [line.strip().removeprefix("$(BIN)/") for line in _make_targets(project)["check"].splitlines()]
    assert commands
    assert entries in (["make check"], commands)


def test_constraints_pin_every_direct_dependency(project: Path, pyproject: dict[str, Any]) -> None:
    lines = [line for line in (project / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)  # fails for a line that is not name==version
    assert not any("+" in version for version in pinned.values()), "a local version exists on one index only"
    extras = pyproject["project"]["optional-dependencies"]
    direct = [*pyproject["project"]["dependencies"]]
    direct += [each for extra, listed in extras.items() if extra not in UNPINNED_EXTRAS for each in listed]
    missing = {_library(each) for each in direct} - {_library(name) for name in pinned} - {"penult"}
    assert not missing, "run `make constraints`"
    assert "penult" not in pinned
