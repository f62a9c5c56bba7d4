"""The examples of docs/extraction.md work."""

import re
from pathlib import Path

import pytest

from penult.exporters.backbone import Backbone
from penult.pipeline.cli import app
from penult.pipeline.extraction.extract import ExtractOptions, extract
from penult.pipeline.extraction.job_file import read_job_file
from penult.store import open_store
from penult.store.diff import diff_stores


def test_the_job_file_of_the_docs_is_valid(project: Path, tmp_path: Path) -> None:
    (shown,) = re.findall(r"<!-- job -->\n```toml\n(.*?)```", (project / "docs/extraction.md").read_text(), re.DOTALL)
    (tmp_path / "job.toml").write_text(shown)
    job = read_job_file(tmp_path / "job.toml")
    assert job.images == (str(tmp_path / "photos"), str(tmp_path / "scans/table.csv"))
    assert job.store == str(tmp_path / "features")
    assert [request.taps for request in job.backbones] == [("penultimate",), ("penultimate", "stage4")]
    assert job.backbones[1].name == str(tmp_path / "resnet50.onnx")
    assert job.options.max_seconds == 14400


def test_the_exit_codes_of_the_docs_are_correct(project: Path) -> None:
    shown = re.findall(r"^\| (\d+) \|", (project / "docs/extraction.md").read_text(), re.MULTILINE)
    codes = (app.DONE, app.FAILED, app.USAGE, app.NEW_FAILURES, app.OUT_OF_TIME, app.INTERRUPTED)
    assert tuple(map(int, shown)) == codes


def test_the_commands_of_the_docs_merge_the_stores_of_parts(
    project: Path, tmp_path: Path, collection: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shown,) = re.findall(r"```python\n(.*?)```", (project / "docs/slurm.md").read_text(), re.DOTALL)
    for number in (1, 2, 3):
        store = tmp_path / "parts" / str(number)
        extract(collection, store, backbone=small_backbone, options=ExtractOptions(shard=f"{number}/3"))
    monkeypatch.chdir(tmp_path)
    exec(compile(shown, "docs/slurm.md", "exec"), {})
    extract(collection, tmp_path / "whole", backbone=small_backbone)
    (found,) = diff_stores(open_store(tmp_path / "whole"), open_store(tmp_path / "features"))
    assert found.is_empty
    assert found.same == 30
    again = extract(collection, tmp_path / "features", backbone=small_backbone)
    assert (again.new, again.reused) == (0, 30)
