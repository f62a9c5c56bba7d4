"""Runs the command line as `python -m penult`."""

from penult.pipeline.cli import main

main()
