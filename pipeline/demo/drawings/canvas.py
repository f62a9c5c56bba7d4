"""A transparent canvas, 2 units high around (0, 0) with y pointing down, and outlines (arrays of points) to draw."""

import colorsys
from collections.abc import Sequence
from math import cos, radians, sin
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, ...]
Outline = NDArray[np.float64]


def random_colour(rng: Random, low: float = 0.25, high: float = 0.95) -> Colour:
    """Returns a colour that is neither black nor white, with a saturation from ``low`` to ``high``."""
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(low, high), rng.uniform(0.3, 0.95))
    return tuple(round(255 * v) for v in rgb)


def tinted(colour: Colour, factor: float) -> Colour:
    """Returns the colour darkened (factor below 1) or mixed with white (factor from 1 to 2)."""
    return tuple(round(v * factor if factor <= 1 else v + (255 - v) * (min(factor, 2) - 1)) for v in colour)


def box(left: float, top: float, right: float, bottom: float) -> Outline:
    """Returns the corners of a rectangle, clockwise from the top left."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def oval(x: float, y: float, rx: float, ry: float, start: float = 0, stop: float = 360, *, power: float = 1) -> Outline:
    """Returns points on an ellipse, clockwise in degrees; a ``power`` of 0.2 makes it a box with round corners."""
    angles = np.radians(np.linspace(start, stop, 61))
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray(np.sign(unit) * np.abs(unit) ** power * (rx, ry) + (x, y))


def curve(points: Sequence[tuple[float, float]]) -> Outline:
    """Returns a smooth curve through the points (a Catmull-Rom spline)."""
    known, t = np.array([points[0], *points, points[-1]], np.float64), np.linspace(0, 1, 9)[:, None]
    parts = [
        (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3) / 2
        for a, b, c, d in zip(known, known[1:], known[2:], known[3:], strict=False)
    ]
    return np.concatenate(parts)


def symmetric(half: Outline) -> Outline:
    """Returns a right half joined to its mirror image on the left."""
    return np.concatenate([half, half[::-1] * (-1, 1)])


def moved(points: Outline, x: float, y: float, *, scale: float = 1, degrees: float = 0) -> Outline:
    """Returns the points turned clockwise around the origin, scaled, and shifted by (x, y)."""
    c, s = scale * cos(radians(degrees)), scale * sin(radians(degrees))
    return np.asarray(points @ np.array([(c, s), (-s, c)]) + (x, y))


class Canvas:
    """A transparent image to draw outlines, text and other images on."""

    def __init__(self, width: int = 360, height: int = 360) -> None:
        self.image = Image.new("RGBA", (width, height))

    def _pixels(self, points: Outline) -> list[float]:
        return list((points * (self.image.height / 2) + (self.image.width / 2, self.image.height / 2)).flat)

    def fill(self, points: Outline, colour: Colour) -> None:
        """Fills an outline with one colour, which replaces what is there."""
        ImageDraw.Draw(self.image).polygon(self._pixels(points), colour)

    def line(self, points: Outline, colour: Colour, width: float) -> None:
        """Draws an open line."""
        ImageDraw.Draw(self.image).line(self._pixels(points), colour, round(width * self.image.height / 2), "curve")

    def shade(self, points: Outline, colour: Colour, *, flat: bool = False) -> None:
        """Fills an outline like a lit cylinder, or like a flat plate that gets darker downwards."""
        mask = Image.new("L", self.image.size)
        ImageDraw.Draw(mask).polygon(self._pixels(points), 255)
        if area := mask.getbbox():
            t = np.linspace(0, 1, 64)
            light = 1.25 - 0.6 * t if flat else 0.45 + 0.85 * np.sin(np.pi * (0.12 + 0.82 * t)) ** 1.6 - 0.25 * t
            strip = np.array([[tinted(colour, factor) for factor in light.tolist()]])
            image = Image.fromarray((strip.transpose(1, 0, 2) if flat else strip).astype(np.uint8))
            self.image.paste(image.resize((area[2] - area[0], area[3] - area[1])), area[:2], mask.crop(area))

    def write(self, text: str, x: float, y: float, size: float, colour: Colour) -> None:
        """Writes text around (x, y), ``size`` units high."""
        font, (left, top) = ImageFont.load_default(size * self.image.height / 2), self._pixels(np.array([x, y]))
        ImageDraw.Draw(self.image).text((left, top), text, colour, font, "mm", stroke_width=1)

    def place(self, image: Image.Image, corners: Outline) -> None:
        """Draws an image as a parallelogram with these top left, top right and bottom right corners."""
        a, b, c = np.reshape(self._pixels(corners[:3]), (3, 2))
        forth = np.array([(*(b - a) / image.width, 0), (*(c - b) / image.height, 0), (*a, 1)]).T
        back = np.linalg.inv(forth)[:2].ravel().tolist()  # Pillow asks where each target pixel comes from.
        layer = image.transform(self.image.size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)
        self.image.alpha_composite(layer)
