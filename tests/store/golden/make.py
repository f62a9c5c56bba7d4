"""Writes the golden store of today's format version: ``python -m tests.store.golden.make --overwrite``.

A golden store is made once, when its version is new, and never again: it represents all existing stores.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from penult.store import SpaceSpec, open_store
from penult.store.spaces import lookup as indexing
from penult.store.store_folder import MAJOR, MINOR
from tests.store.rig.samples import keys_of, rows_of

FOLDER = Path(__file__).parent
NARROW = SpaceSpec("lite0", "ab" * 32, "penultimate", 5, card={"licence": "Apache-2.0"})
WIDE = SpaceSpec("lite0", "cd" * 32, "stage1", 2, view="hflip", dtype="float32")


def make(path: Path) -> dict[str, dict[str, list[float]]]:
    """Makes a store with every kind of file, and returns its rows."""
    indexing.WORTH_ROWS = 1
    store, expected = open_store(path), {}
    store.add_backbone("lite0", "ab" * 32, b"no real graph")
    for spec in (NARROW, WIDE):
        space = store.space(spec)
        for batch in range(3):
            keys = keys_of(batch)
            space.add(keys, rows_of(keys, spec.width) / 3)
            if batch == 1:
                space.compact()
                space.collect(grace_seconds=0)
        space.checkpoint()
        rows = space.load()
        expected[spec.id] = {
            key.tobytes().hex(): row.tolist() for key, row in zip(rows.keys, rows.features, strict=True)
        }
    return expected


if __name__ == "__main__":
    target = FOLDER / f"store_{MAJOR}_{MINOR}.zip"
    if target.exists() and "--overwrite" not in sys.argv:
        sys.exit(f"{target} exists; --overwrite replaces it, and older stores are then no longer tested")
    with tempfile.TemporaryDirectory() as folder:
        rows = make(Path(folder) / "store")
        shutil.make_archive(str(target.with_suffix("")), "zip", folder)
    target.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
