"""The command line: each verb is one call of the Python API. It prints text by default, and JSON with --json."""

from penult.pipeline.cli.app import main

__all__ = ["main"]
