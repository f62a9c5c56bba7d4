"""Progress in a log: one line per minute with the current rate and time left."""

import io
import re

import pytest

from penult.pipeline.progress import Bars, Lines


def test_rate_and_time_left_cover_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    with Lines(stream).task("Extracting", total=1_000_600) as task:
        task.advance(1_000_000, note="1,000,000 reused")  # stored images take no time
        for second in range(1, 181):
            clock[0] = float(second)
            task.advance(2)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4, "one a minute, and one at the end"
    assert lines[1] == "Extracting: 1,000,240 of 1,000,600 images, 2.0/s, 3 min 0 s left, 1,000,000 reused"
    assert lines[2].startswith("Extracting: 1,000,360 of 1,000,600 images, 2.0/s, 2 min 0 s left")
    assert lines[3].startswith("Extracting: 1,000,360 images in 3 min 0 s, ")


def test_a_bar_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars()
    with bars.task("Extracting", total=3) as task:
        task.advance(2, note="2 new")
        task.expect(4)
        task.advance(2, note="4 new")
    bars.say("done")
    drawn = capsys.readouterr().err
    assert "Extracting" in drawn
    assert "4 new" in drawn
    assert "done" in drawn


def test_a_long_note_does_not_shorten_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars().task("Extracting", total=1200) as task:
        task.advance(1100, note="1,050 new, 49 reused, 1 failed; " + "session 60 %, decode 39 %, " * 9)
    *_, bar, note = capsys.readouterr().err.rstrip().splitlines()
    assert re.search(r"Extracting ━.* 1,100 of 1,200 images [0-9,]+/s", bar)
    assert note.startswith("1,050 new, 49 reused, 1 failed; session 60 %")
    assert max(len(bar.rstrip()), len(note.rstrip())) <= 80
