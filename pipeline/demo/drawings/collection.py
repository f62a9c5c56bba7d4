"""Draws the whole collection into a folder: five classes, a train and a test split."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from penult.errors import InputError
from penult.pipeline.demo.drawings.cards import draw_card
from penult.pipeline.demo.drawings.composition import compose, encode
from penult.pipeline.demo.drawings.cubes import draw_cube
from penult.pipeline.demo.drawings.hats import draw_hat
from penult.pipeline.demo.drawings.screws import draw_screw
from penult.pipeline.demo.drawings.sticker import Sticker
from penult.pipeline.demo.drawings.torches import draw_torch

_DRAWN: dict[str, tuple[Callable[[Random], Sticker], float]] = {
    "card": (draw_card, 180.0),
    "cube": (draw_cube, 20.0),
    "hat": (draw_hat, 40.0),
    "screw": (draw_screw, 180.0),
    "torch": (draw_torch, 180.0),
}
CLASSES = tuple(sorted(_DRAWN))
# Hidden, so that nothing takes it for a part of the data set.
_RECIPE = ".drawings.json"


def draw_collection(folder: str | Path, *, per_class_train: int = 40, per_class_test: int = 20, seed: int = 0) -> None:
    """Draws ``folder/<train|test>/<class>/…`` and leaves alone what is drawn already.

    The same arguments give the same bytes under one version of Pillow. An interrupted drawing is completed by the
    next call. A folder that holds anything but this very collection is refused rather than mixed.
    """
    folder = Path(folder)
    counts = {"train": per_class_train, "test": per_class_test}
    _claim(folder, {"drawings": 1, "seed": seed, **counts})
    for split, count in counts.items():
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                _draw_missing(folder / split / name, f"{seed}/{split}/{name}/{number}")


def _claim(folder: Path, recipe: dict[str, int]) -> None:
    """Writes the recipe into an empty folder, or makes sure that the one in it is the same."""
    note = folder / _RECIPE
    text = json.dumps(recipe)
    if note.is_file():
        if note.read_text(encoding="utf-8") == text:
            return
        raise InputError(
            f"{folder} holds other drawings: {note.read_text(encoding='utf-8')}",
            expected=text,
            remedy="name another folder, or remove this one first",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} is not empty", expected="a new or empty folder", remedy="name another folder to draw into"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write(note, text.encode())


def _draw_missing(folder: Path, subject: str) -> None:
    name, number = subject.split("/")[2:]
    rng = Random(subject)  # noqa: S311 - drawings, no secrets
    suffix = ".png" if rng.random() < 0.1 else ".jpg"
    path = folder / f"{name}-{int(number):03}{suffix}"
    if path.exists():
        return
    draw, largest_turn = _DRAWN[name]
    picture = compose(draw(rng), rng, largest_turn=largest_turn)
    _write(path, encode(picture, suffix, rng))


def _write(path: Path, data: bytes) -> None:
    """Writes whole or not at all, so that an interrupted drawing leaves no half image under a real name."""
    draft = path.with_name(f".{path.name}.part")
    draft.write_bytes(data)
    draft.replace(path)
