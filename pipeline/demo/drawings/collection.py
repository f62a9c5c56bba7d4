"""Draws the whole collection into a folder: five classes, with a train and a test split."""

import json
from itertools import product
from pathlib import Path
from random import Random

from penult.errors import InputError
from penult.pipeline.demo.drawings.canvas import Canvas
from penult.pipeline.demo.drawings.objects import draw_card, draw_cube, draw_hat, draw_screw, draw_torch
from penult.pipeline.demo.drawings.scenes import compose

_OBJECTS = {"card": draw_card, "cube": draw_cube, "hat": draw_hat, "screw": draw_screw, "torch": draw_torch}
# By how many degrees an object is turned at most; 180 for those that have no upright position.
_LARGEST_TURN = {"card": 180, "cube": 20, "hat": 40, "screw": 180, "torch": 180}
CLASSES = tuple(_OBJECTS)
_RECIPE = ".drawings.json"  # hidden, so that no reader of the folder takes it for an image


def draw_collection(folder: str | Path, *, per_class_train: int = 40, per_class_test: int = 20, seed: int = 0) -> None:
    """Draws ``folder/<train|test>/<class>/…`` and skips images that already exist.

    The same arguments give the same bytes with the same versions of Pillow and numpy. The next call completes an
    interrupted drawing. Raises an ``InputError`` if the folder contains anything other than this collection.
    """
    folder = Path(folder)
    counts = {"train": per_class_train, "test": per_class_test}
    _claim(folder, json.dumps({"drawings": 2, "seed": seed, **counts}))
    for split, name in product(counts, CLASSES):
        (folder / split / name).mkdir(parents=True, exist_ok=True)
        for number in range(counts[split]):
            rng = Random(f"{seed}/{split}/{name}/{number}")  # noqa: S311 - not used for security
            suffix = ".png" if rng.random() < 0.1 else ".jpg"
            path = folder / split / name / f"{name}-{number:03}{suffix}"
            if not path.exists():
                _draw(path, name, rng)


def _draw(path: Path, name: str, rng: Random) -> None:
    """Writes one image; a draft that is renamed leaves no half image behind after an interruption."""
    canvas = Canvas()
    _OBJECTS[name](canvas, rng)
    picture = compose(canvas.image, rng, largest_turn=_LARGEST_TURN[name])
    draft = path.with_name(f".{path.name}.part")
    picture.save(draft, "PNG" if path.suffix == ".png" else "JPEG", quality=rng.randint(78, 94))
    draft.replace(path)


def _claim(folder: Path, recipe: str) -> None:
    """Writes the recipe into an empty folder, or checks that the folder's recipe is the same."""
    note = folder / _RECIPE
    if not note.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is not empty", expected="a new or empty folder", remedy="name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(recipe, encoding="utf-8")
    if (found := note.read_text(encoding="utf-8")) != recipe:
        remedy = "name another folder, or remove this one first"
        raise InputError(f"{folder} contains other drawings: {found}", expected=recipe, remedy=remedy)
