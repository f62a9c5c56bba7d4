"""Every architecture with random weights agrees with its source; takes hours."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.exporter_cases import CASES

from tests.exporters.torchvision_shim import import_or_skip

import_or_skip("torch", "torchvision", "timm", "keras")

pytestmark = [pytest.mark.slow, pytest.mark.hours]


@pytest.fixture(scope="module", params=["torchvision", "timm", "keras"])
def results(request: pytest.FixtureRequest, project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of the benchmark for one library, with one process per network."""
    folder = tmp_path_factory.mktemp("architectures")
    options = ["--only", request.param, "--results", str(folder / "found.jsonl"), "--table", str(folder / "table.md")]
    subprocess.run([sys.executable, "-m", "benchmarks.exporters", *options], cwd=project, check=True)
    found = [json.loads(line) for line in (folder / "found.jsonl").read_text().split("\n") if line]
    assert {each["source"] for each in found} == {case for case in CASES if case.startswith(request.param)}
    return {each["source"]: each for each in found}


def test_all_agree_with_their_source_and_exports_are_reproducible(results: dict[str, Any]) -> None:
    wrong = {source: found["verdict"] for source, found in results.items() if found["verdict"] != "the same"}
    assert not wrong
    assert not [source for source, found in results.items() if found["twice"] is False]
    assert max(found["worst"] for found in results.values()) < 1e-4
