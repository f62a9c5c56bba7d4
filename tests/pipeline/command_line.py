"""Runs the command line in this process, which saves the start of another one."""

import contextlib
import io
import signal
import sys
import warnings
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

import pytest

from penult.pipeline.cli import main


def penult(*arguments: object, cwd: Path) -> CompletedProcess[str]:
    """Runs ``penult ARGUMENTS`` in the folder ``cwd``; returns its output and exit code."""
    words = ["penult", *map(str, arguments)]
    printed, said = io.BytesIO(), io.BytesIO()
    stdout, stderr = (io.TextIOWrapper(stream, encoding="utf-8", write_through=True) for stream in (printed, said))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with (
            contextlib.chdir(cwd),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            mock.patch.object(sys, "argv", words),
            warnings.catch_warnings(),
            pytest.raises(SystemExit) as left,
        ):
            main()
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert isinstance(left.value.code, int)
    return CompletedProcess(words, left.value.code, printed.getvalue().decode(), said.getvalue().decode())
