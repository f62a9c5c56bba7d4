"""One object on a transparent square, drawn larger than it will stand in the picture and reduced there."""

from collections.abc import Sequence
from math import ceil, cos, floor, pi, radians, sin
from random import Random
from typing import Literal

from PIL import Image, ImageChops, ImageDraw

from penult.pipeline.demo.drawings.outlines import Point

Colour = tuple[int, int, int]
Profile = Literal["flat", "cylinder", "falling", "rising"]
SIDE = 448
_RAMP = 40


def tinted(colour: Colour, factor: float) -> Colour:
    """Returns ``colour`` darkened (below 1) or drawn towards white (above 1).

    >>> tinted((100, 200, 50), 0.5), tinted((100, 200, 50), 2.0)
    ((50, 100, 25), (255, 255, 255))
    """
    if factor <= 1:
        r, g, b = (round(v * max(factor, 0.0)) for v in colour)
    else:
        r, g, b = (round(v + (255 - v) * min(factor - 1, 1.0)) for v in colour)
    return r, g, b


def lively(rng: Random, *, saturation: tuple[float, float] = (0.25, 0.95)) -> Colour:
    """Returns a random colour that is neither black nor white."""
    hue, strength, value = rng.uniform(0, 6), rng.uniform(*saturation), rng.uniform(0.3, 0.95)
    parts = [(1 - strength * max(0.0, min(1.0, 2 - abs((hue + shift) % 6 - 3)))) for shift in (0, 4, 2)]
    r, g, b = (round(255 * value * part) for part in parts)
    return r, g, b


def _light(profile: Profile, t: float) -> float:
    if profile == "cylinder":
        return 0.45 + 0.85 * float(max(0.0, sin(pi * (0.12 + 0.82 * t))) ** 1.6) - 0.25 * t
    if profile == "falling":
        return 1.25 - 0.6 * t
    if profile == "rising":
        return 0.65 + 0.6 * t
    return 1.0


def _lit_strips(
    size: tuple[int, int], pixels: Sequence[Point], colour: Colour, profile: Profile, angle: float
) -> Image.Image:
    """Returns strips of ``colour`` across the outline ``pixels``, each as bright as ``profile`` says."""
    c, s = cos(angle), sin(angle)
    along = [c * x + s * y for x, y in pixels]
    across = [c * y - s * x for x, y in pixels]
    low, high = min(along), max(along)
    near, far = min(across) - 2, max(across) + 2
    strips = Image.new("RGB", size)
    pen = ImageDraw.Draw(strips)
    for i in range(_RAMP):
        start, stop = (low + (high - low) * t / _RAMP for t in (i, i + 1))
        corners = ((start - 1, near), (stop + 1, near), (stop + 1, far), (start - 1, far))
        strip = [(c * a - s * b, s * a + c * b) for a, b in corners]
        pen.polygon(strip, fill=tinted(colour, _light(profile, (i + 0.5) / _RAMP)))
    return strips


class Sticker:
    """A transparent square from -1 to 1 that takes filled, shaded and translucent polygons."""

    def __init__(self, side: int = SIDE) -> None:
        self.image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.image)
        self._half = side / 2

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        return [((x + 1) * self._half, (y + 1) * self._half) for x, y in points]

    def fill(self, points: Sequence[Point], colour: Colour) -> None:
        """Fills an outline with one colour."""
        self._draw.polygon(self._pixels(points), fill=colour)

    def stroke(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """Draws an open line of ``width`` in drawing units."""
        self._draw.line(self._pixels(points), fill=colour, width=max(1, round(width * self._half)), joint="curve")

    def shade(self, points: Sequence[Point], colour: Colour, profile: Profile, *, degrees: float = 0.0) -> None:
        """Fills an outline with ``colour`` lit by ``profile`` from its left to its right, turned by ``degrees``."""
        pixels = self._pixels(points)
        left, top = (max(0, floor(min(axis))) for axis in zip(*pixels, strict=True))
        right, bottom = (min(self.image.width, ceil(max(axis)) + 1) for axis in zip(*pixels, strict=True))
        if left >= right or top >= bottom:
            return
        pixels = [(x - left, y - top) for x, y in pixels]
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).polygon(pixels, fill=255)
        self.image.paste(_lit_strips(mask.size, pixels, colour, profile, radians(degrees)), (left, top), mask)

    def beam(self, points: Sequence[Point], colour: Colour, opacity: float) -> None:
        """Fills an outline with light that is strongest at its left and gone at its right."""
        pixels = self._pixels(points)
        left, right = min(x for x, _ in pixels), max(x for x, _ in pixels)
        fading = Image.linear_gradient("L").rotate(-90).resize((max(1, round(right - left)), self.image.height))
        light = Image.new("L", self.image.size)
        light.paste(fading, (round(left), 0))
        cone = Image.new("L", self.image.size)
        ImageDraw.Draw(cone).polygon(pixels, fill=round(255 * opacity))
        self._shine(ImageChops.multiply(light, cone), colour)

    def glow(self, centre: Point, radius: float, colour: Colour) -> None:
        """Lays a round haze of light over what is there, weaker with distance."""
        (x, y), reach = self._pixels([centre])[0], round(radius * self._half)
        haze = Image.radial_gradient("L").resize((2 * reach, 2 * reach))
        # Pillow's gradient has come to 179 where it meets its own edge, and is 255 in the corners only.
        haze = haze.point([max(0, 178 - v) * 3 // 5 for v in range(256)])
        light = Image.new("L", self.image.size)
        light.paste(haze, (round(x) - reach, round(y) - reach))
        self._shine(light, colour)

    def _shine(self, light: Image.Image, colour: Colour) -> None:
        layer = Image.new("RGBA", self.image.size, colour)
        layer.putalpha(light)
        self.image.alpha_composite(layer)

    def stick(self, image: Image.Image, centre: Point, *, height: float, degrees: float = 0.0) -> None:
        """Pastes another drawing, ``height`` drawing units high, turned clockwise by ``degrees``."""
        factor = height * self._half / image.height
        fitted = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BOX)
        turned = fitted.rotate(-degrees, resample=Image.Resampling.BICUBIC, expand=True)
        x, y = self._pixels([centre])[0]
        layer = Image.new("RGBA", self.image.size, (0, 0, 0, 0))
        layer.paste(turned, (round(x - turned.width / 2), round(y - turned.height / 2)))
        self.image.alpha_composite(layer)
