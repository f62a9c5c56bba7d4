"""Measures the time and accuracy of heads for a hundred classes and more: a table for docs/heads.md.

    python -m benchmarks.heads_many                             20,000 synthetic rows, ten minutes on an idle machine
    python -m benchmarks.heads_many --photos FOLDER             each photo is a class, and its crops are the images
    python -m benchmarks.heads_many --rows 2000 --width 64 --classes 120      a small trial

Each head is fitted on one core, without kept statistics. Crops cover 6 to 40 % of their photo, and are mirrored and
recoloured at random. 20 crops of each photo are for training and 5 for testing. So the features come from a real
network, and the classes look alike.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from benchmarks.heads_data import Kind, Rows, synthetic_rows

CLASSES = (100, 300, 1000)
HEADS = ("logistic", "ridge", "lda")
CROPS, TRAINED = 25, 20


def crops_of(photo: Path, seed: int) -> list[np.ndarray]:
    from PIL import Image, ImageEnhance

    rng = np.random.default_rng(seed)
    image = Image.open(photo).convert("RGB")
    crops = []
    for _ in range(CROPS):
        share = np.sqrt(rng.uniform(0.06, 0.4))
        width, height = (max(1, int(side * share)) for side in image.size)
        left, top = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
        crop = image.crop((left, top, left + width, top + height)).resize((224, 224), Image.Resampling.BILINEAR)
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop
        crop = ImageEnhance.Brightness(crop).enhance(rng.uniform(0.6, 1.4))
        crops.append(np.asarray(ImageEnhance.Color(crop).enhance(rng.uniform(0.5, 1.5))))
    return crops


def photo_rows(folder: Path, most: int) -> Rows:
    from penult.exporters.registry import load_backbone
    from penult.pipeline.runtime.session import Session

    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    photos = [photos[i] for i in np.linspace(0, len(photos) - 1, min(most, len(photos))).round().astype(int)]
    session = Session(load_backbone("efficientnet-lite0"), ["penultimate"], provider="cpu")
    features = [session.run(np.stack(crops_of(photo, seed)))["penultimate"] for seed, photo in enumerate(photos)]
    train, test = (np.concatenate([own[part] for own in features]) for part in (slice(TRAINED), slice(TRAINED, None)))
    codes = np.arange(len(photos))
    return Rows(f"crops of {folder.name}", train, codes.repeat(TRAINED), test, codes.repeat(CROPS - TRAINED))


def first_classes(rows: Rows, count: int) -> Rows:
    """Returns the rows of ``count`` classes, spread evenly over all of them."""
    chosen = np.linspace(0, rows.classes - 1, count).round().astype(int)
    parts = []
    for X, y in ((rows.X, rows.y), (rows.X_test, rows.y_test)):
        kept = np.isin(y, chosen)
        parts += [X[kept], np.searchsorted(chosen, y[kept])]
    return Rows(rows.name, *parts)


def measured(name: str, rows: Rows) -> str:
    from penult.pipeline.evaluation.evaluation import evaluate
    from penult.pipeline.heads.recipe import HeadOptions
    from penult.pipeline.heads.registry import recipe_of

    recipe = recipe_of(name, HeadOptions(len(rows.y), rows.classes, rows.X.shape[1]))
    wall, cpu = time.perf_counter(), time.process_time()
    head = recipe.fit(rows.X, rows.y).estimator
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    keys = np.arange(len(rows.y_test), dtype=np.uint64).repeat(2).view(np.uint8).reshape(-1, 16)
    found = evaluate(keys, rows.y_test, head.predict_proba(rows.X_test), [str(i) for i in range(rows.classes)])
    passes = f"{head.n_iter_}, C = {head.C_:.2g}" if name == "logistic" else ""
    return (
        f"| {rows.name} | {rows.classes:,} | {len(rows.y):,} | {name} | {cpu:.1f} | {wall:.1f} "
        f"| {found.accuracy} | {found.log_loss:.3f} | {passes} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the synthetic set")
    parser.add_argument("--width", type=int, default=Kind.width)
    parser.add_argument("--apart", type=float, default=0.25, help="the distance of the synthetic classes")
    parser.add_argument("--photos", type=Path, help="a folder of photos, instead of the synthetic set")
    parser.add_argument("--heads", nargs="+", default=HEADS)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    photos = None if options.photos is None else photo_rows(options.photos, max(options.classes))
    print("| rows | classes | trained on | head | CPU s | wall s | accuracy | log-loss | passes |")
    print("|---|---|---|---|---|---|---|---|---|")
    for count in options.classes:
        if photos is None:
            rows = synthetic_rows(options.rows, Kind(options.width, count, options.apart))
        else:
            rows = first_classes(photos, min(count, photos.classes))
        for name in options.heads:
            print(measured(name, rows), flush=True)


if __name__ == "__main__":
    main()
