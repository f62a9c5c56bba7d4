"""Views: transforms of an image before the backbone, which serve cached features as augmentation serves training.

A view transforms the pixels that the backbone takes. Its random numbers come from the image's key and the view's name,
so the result is the same on every machine and in every run.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from penult.errors import InputError, UnknownNameError

__all__ = ["IDENTITY", "parse_views", "row_name", "view_of"]

IDENTITY = "identity"

Pixels = NDArray[np.uint8]

# Random numbers from 0 to 1, fixed for an image and a view.
Draws = Iterator[float]

SHEAR, ZOOM, DEGREES, COLOUR, SMALLEST_CROP = 0.2, 0.2, 15.0, 0.2, 0.8


def parse_views(text: str) -> tuple[str, ...]:
    """Returns the views named in ``text``, without duplicates.

    >>> parse_views("identity, hflip, affine-3")
    ('identity', 'hflip', 'affine-3')
    """
    views = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not views:
        raise InputError(f"The views are {text!r}", expected="names separated by commas, such as identity,hflip")
    for view in views:
        view_of(view)
    return views


def row_name(tap: str, view: str) -> str:
    """Returns a job's name for the rows of a tap and a view; for the identity, it is the tap's name.

    >>> row_name("penultimate", "identity"), row_name("penultimate", "hflip")
    ('penultimate', 'penultimate:hflip')
    """
    return tap if view == IDENTITY else f"{tap}:{view}"


def view_of(name: str) -> Callable[[Pixels, bytes], Pixels]:
    """Returns a function that transforms pixels (H, W, 3), given the pixels and the key of their image."""
    if name in PLAIN:
        plain = PLAIN[name]
        return lambda pixels, key: plain(pixels)
    kind, _, number = name.rpartition("-")
    if kind not in DRAWN or not re.fullmatch(r"[1-9]\d{0,3}", number):
        raise UnknownNameError.among("view", name, [*PLAIN, *(f"{kind}-1" for kind in DRAWN)])
    drawn = DRAWN[kind]
    return lambda pixels, key: drawn(pixels, _draws(key, name))


def _draws(key: bytes, name: str) -> Draws:
    # Not NumPy's generator, whose numbers may change between versions.
    digest = hashlib.sha256(key + name.encode()).digest()
    return (int.from_bytes(digest[start : start + 4], "big") / 2**32 for start in range(0, len(digest), 4))


def _about(middle: float, spread: float, draws: Draws) -> float:
    return middle + spread * (2 * next(draws) - 1)


def _affine(pixels: Pixels, draws: Draws) -> Pixels:
    """Shears, zooms and perhaps flips, like the defaults in most tutorials on Keras' ``ImageDataGenerator``."""
    shear, across, down = _about(0, SHEAR, draws), _about(1, ZOOM, draws), _about(1, ZOOM, draws)
    return _mapped(pixels, (-across if next(draws) < 0.5 else across, shear, 0.0, down))


def _shear(pixels: Pixels, draws: Draws) -> Pixels:
    return _mapped(pixels, (1.0, _about(0, SHEAR, draws), 0.0, 1.0))


def _zoom(pixels: Pixels, draws: Draws) -> Pixels:
    scale = _about(1, ZOOM, draws)
    return _mapped(pixels, (scale, 0.0, 0.0, scale))


def _rotation(pixels: Pixels, draws: Draws) -> Pixels:
    angle = math.radians(_about(0, DEGREES, draws))
    return _mapped(pixels, (math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle)))


def _crop(pixels: Pixels, draws: Draws) -> Pixels:
    """Enlarges a part of the image, at least four fifths of each side, to the full size."""
    scale = SMALLEST_CROP + (1 - SMALLEST_CROP) * next(draws)
    height, width = pixels.shape[:2]
    across, down = (_about(0, (1 - scale) / 2, draws) for _ in range(2))
    return _mapped(pixels, (scale, 0.0, 0.0, scale), (across * width, down * height))


def _colour(pixels: Pixels, draws: Draws) -> Pixels:
    image = Image.fromarray(pixels)
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(_about(1, COLOUR, draws))
    return np.asarray(image)


def _mapped(
    pixels: Pixels, matrix: tuple[float, float, float, float], move: tuple[float, float] = (0.0, 0.0)
) -> Pixels:
    """Applies the affine ``matrix`` around the centre; the image is mirrored beyond its edges."""
    height, width = pixels.shape[:2]
    margins = (height // 2, width // 2)
    wide = np.pad(pixels, ((margins[0],) * 2, (margins[1],) * 2, (0, 0)), mode="symmetric")
    a, b, c, d = matrix
    x, y = width / 2, height / 2
    left = x + margins[1] + move[0] - a * x - b * y
    top = y + margins[0] + move[1] - c * x - d * y
    coefficients = (a, b, left, c, d, top)
    image = Image.fromarray(wide)
    return np.asarray(image.transform((width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR))


PLAIN: dict[str, Callable[[Pixels], Pixels]] = {
    IDENTITY: lambda pixels: pixels,
    "hflip": lambda pixels: pixels[:, ::-1],
    "vflip": lambda pixels: pixels[::-1],
}

DRAWN: dict[str, Callable[[Pixels, Draws], Pixels]] = {
    "affine": _affine,
    "shear": _shear,
    "zoom": _zoom,
    "rotation": _rotation,
    "crop": _crop,
    "colour": _colour,
}
