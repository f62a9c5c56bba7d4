"""Thirty images of three classes that every network separates."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("red", "green", "blue")


def draw_colours(root: Path) -> Path:
    """Draws ten different images per class, in one folder per class."""
    chance = np.random.default_rng(5)
    for channel, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(10):
            pixels = chance.integers(0, 110, (40 + number, 60, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root
