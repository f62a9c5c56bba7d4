"""`python -m penult` is `penult`."""

from penult.pipeline.cli import main

main()
