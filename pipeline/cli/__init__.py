"""The command line: each verb is one call of the Python API, for people by default and for machines with --json."""

from penult.pipeline.cli.app import main

__all__ = ["main"]
