"""What docs/extraction.md shows is true: its job file can be read, and its exit codes are the program's."""

import re
from pathlib import Path

from penult.pipeline.cli import app
from penult.pipeline.extraction.job_file import read_job_file


def test_the_job_file_can_be_read(project: Path, tmp_path: Path) -> None:
    (shown,) = re.findall(r"<!-- job -->\n```toml\n(.*?)```", (project / "docs/extraction.md").read_text(), re.DOTALL)
    (tmp_path / "job.toml").write_text(shown)
    job = read_job_file(tmp_path / "job.toml")
    assert job.images == (str(tmp_path / "photos"), str(tmp_path / "scans/table.csv"))
    assert job.store == str(tmp_path / "features")
    assert [request.taps for request in job.backbones] == [("penultimate",), ("penultimate", "stage4")]
    assert job.backbones[1].name == str(tmp_path / "resnet50.onnx")
    assert job.options.max_seconds == 14400


def test_the_exit_codes_are_those_of_the_program(project: Path) -> None:
    shown = re.findall(r"^\| (\d+) \|", (project / "docs/extraction.md").read_text(), re.MULTILINE)
    codes = (app.DONE, app.FAILED, app.USAGE, app.NEW_FAILURES, app.OUT_OF_TIME, app.INTERRUPTED)
    assert tuple(map(int, shown)) == codes
