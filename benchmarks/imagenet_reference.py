"""Measures the feature statistics of ImageNet photos, and the distances of known image sets from them.

``python -m benchmarks.imagenet_reference PHOTOS --photographs NAME=FOLDER… --unlike NAME=FOLDER…`` extracts all of them
with the built-in backbone, prints the distances, and writes the file that `penult advise` compares images with. PHOTOS
is a folder with ImageNet photos. The committed file was made from a hundred photos, one of every tenth class, probably
training photos.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.exporters import load_backbone
from penult.pipeline.advising.imagenet_distance import SIZES, distances
from penult.pipeline.extraction.extract import extract, find_images
from penult.pipeline.progress import Progress, Silent
from penult.store import Store, open_store
from penult.store.keys import key_array

BACKBONE, TAP = "efficientnet-lite0", "penultimate"
FILE = Path(__file__).parents[1] / "pipeline" / "advising" / "imagenet_reference.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path, help="a folder with ImageNet photos")
    parser.add_argument("--photographs", nargs="+", required=True, help="folders of natural photographs, NAME=FOLDER")
    parser.add_argument("--unlike", nargs="+", required=True, help="folders of other images, NAME=FOLDER")
    parser.add_argument("--store", type=Path, help="keep the features in this store; by default they are deleted")
    parser.add_argument("--file", type=Path, default=FILE, help="where the statistics are written")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        store = open_store(asked.store or Path(room) / "store")
        sets = {"photographs": named(asked.photographs), "unlike": named(asked.unlike)}
        made = reference_of(store, asked.photos, sets)
    asked.file.write_text(json.dumps(made) + "\n")
    for size, kinds in made["known"].items():
        for kind, sets in kinds.items():
            for name, distance in sets.items():
                print(f"{size:>4} images of {name:20} {distance:.3f}  ({kind})")


def named(given: list[str]) -> dict[str, Path]:
    return {name: Path(folder) for name, _, folder in (one.partition("=") for one in given)}


def reference_of(store: Store, photos: Path, folders: dict[str, dict[str, Path]]) -> dict[str, Any]:
    """Returns the statistics of the photos, and the mean distances of the sets at each size."""
    shown = Silent()
    rows = rows_of(store, photos, shown).astype(np.float64)
    mean, deviation = rows.mean(axis=0), rows.std(axis=0, ddof=1)
    sets = {
        kind: {name: rows_of(store, folder, shown) for name, folder in members.items()}
        for kind, members in folders.items()
    }
    known = {
        size: {
            kind: {
                name: round(float(distances(rows, size, mean, deviation).mean()), 3) for name, rows in members.items()
            }
            for kind, members in sets.items()
        }
        for size in SIZES
    }
    return {
        "about": "Made by python -m benchmarks.imagenet_reference of photos of ImageNet.",
        "fingerprint": load_backbone(BACKBONE).fingerprint,
        "tap": TAP,
        "photos": len(rows),
        "mean": [float(f"{value:.4g}") for value in mean],
        "deviation": [float(f"{value:.4g}") for value in deviation],
        "known": {str(size): kinds for size, kinds in known.items()},
    }


def rows_of(store: Store, folder: Path, progress: Progress) -> NDArray[np.float32]:
    """Extracts the images of a folder, and returns their features in key order."""
    files = find_images(folder, progress)
    extract(files, store, backbone=BACKBONE, taps=[TAP], progress=progress)
    known = {key for key in store.catalog.files.known(files) if key is not None}
    return store.find_space(BACKBONE, TAP).gather(key_array(sorted(known)))


if __name__ == "__main__":
    main()
