"""From image files to rows in the store: list, read, decode, run, commit."""
