"""Measures runs over a collection that is already in the store: unchanged, and with some new images in it.

    python -m benchmarks.extract_again                 100,000 images, and 1,000 new ones; some three minutes
    python -m benchmarks.extract_again --count 10000   a small trial

The known images are tiny files whose keys and rows are written into the store directly. A run that finds them unchanged
opens none, so their content does not matter. The new images are photos of 500 x 375, for the built-in backbone. Each
run is `penult extract` in a separate process, including its start-up.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.extract import PHOTOS
from benchmarks.extract_data import make_small, photos_of


def fill(folder: Path, store_path: Path, count: int) -> None:
    """Makes a collection of ``count`` files, and a store that contains them all."""
    from penult.exporters import load_backbone
    from penult.pipeline.extraction.extract import open_spaces
    from penult.pipeline.images.listing import list_images
    from penult.store import open_store
    from penult.store.catalog.files import SeenFile
    from penult.store.keys import key_array, key_of

    for number in range(count):
        path = folder / f"{number // 1000:04d}" / f"{number:07d}.jpg"
        if not number % 1000:
            path.parent.mkdir(parents=True)
        path.write_bytes(str(number).encode())
    store = open_store(store_path)
    (space,) = open_spaces(store, load_backbone("efficientnet-lite0"), ["penultimate"], "float16").values()
    files = list(list_images(folder))
    seen = [SeenFile(file.path, file.size, file.mtime_ns, key_of(Path(file.path).read_bytes())) for file in files]
    rows = np.zeros((16_384, space.spec.width), np.float16)
    for start in range(0, count, len(rows)):
        keys = [file.key for file in seen[start : start + len(rows)]]
        space.add(key_array(keys), rows[: len(keys)])
    store.catalog.files.record(seen)
    store.catalog._database.close()


def run(images: Path, store: Path) -> tuple[float, str]:
    """Runs the verb, and returns its seconds and the first line of its receipt."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "penult", "extract", str(images), "--store", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, done.stdout.splitlines()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="images that are already in the store")
    parser.add_argument("--new", type=int, default=1_000, help="new images")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="the photos that the new images are made from")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        room = Path(temporary)
        new = [Path(path) for path in make_small(photos_of(asked.photos), room / "new", asked.new)]
        fill(room / "images", room / "store", asked.count)
        unchanged = min((run(room / "images", room / "store") for _ in range(3)), key=lambda took: took[0])
        alone = run(room / "new", room / "other")
        for number, path in enumerate(new):
            path.rename(room / "images" / f"{number % ((asked.count + 999) // 1000):04d}" / path.name)
        among = run(room / "images", room / "store")
    for what, (seconds, told) in (("unchanged", unchanged), ("new alone", alone), ("new among them", among)):
        print(f"{what:15} {seconds:7.2f} s   {told}")
    print(f"peak memory of a run: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3:,.0f} MB")
    print(f"new among them, minus new alone and unchanged: {among[0] - alone[0] - unchanged[0]:+.2f} s")


if __name__ == "__main__":
    main()
