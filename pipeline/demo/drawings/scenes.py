"""Backgrounds: walls, cloth, wood, tiles, grass and blurred lights, some with clutter that belongs to no class."""

from collections.abc import Callable
from math import cos, pi, sin
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from penult.pipeline.demo.drawings.outlines import Outline, Point, box, moved, oval, spline
from penult.pipeline.demo.drawings.sticker import Colour, lively, tinted

Size = tuple[int, int]
_Field = NDArray[np.float32]


def draw_scene(size: Size, rng: Random) -> Image.Image:
    """Draws a picture of ``size`` (width, height) without an object in it."""
    kinds: list[Callable[[Size, Random], Image.Image]] = [
        _gradient,
        _mottled,
        _mottled,
        _wood,
        _stripes,
        _tiles,
        _lights,
        _room,
    ]
    scene = rng.choice(kinds)(size, rng)
    if rng.random() < 0.55:
        scatter(scene, rng, rng.randint(3, 12))
    if rng.random() < 0.5:
        scene = scene.filter(ImageFilter.BoxBlur(rng.uniform(0.6, 2.6)))
    return scene


def scatter(scene: Image.Image, rng: Random, count: int) -> None:
    """Strews simple things over ``scene``: boxes, discs, sticks, leaves, papers and pebbles."""
    # Nearest neighbours up and means down leave every pixel that is not drawn on as it was.
    large = scene.resize((scene.width * 2, scene.height * 2), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(large)
    for _ in range(count):
        centre = (rng.uniform(0, large.width), rng.uniform(0, large.height))
        outline = moved(_thing(rng), centre, scale=rng.uniform(25, 130), degrees=rng.uniform(0, 360))
        colour = lively(rng, saturation=(0.1, 0.8))
        pen.polygon([(x + 5, y + 7) for x, y in outline], fill=tinted(colour, 0.3))
        pen.polygon(outline, fill=colour)
        pen.line([*outline[: len(outline) // 2]], fill=tinted(colour, 1.3), width=3)
    scene.paste(large.reduce(2))


def _thing(rng: Random) -> Outline:
    kind = rng.randrange(5)
    if kind == 0:
        return box(-1, -rng.uniform(0.3, 0.9), 1, rng.uniform(0.3, 0.9), radius=rng.uniform(0, 0.2))
    if kind == 1:
        return oval((0, 0), (0.7, rng.uniform(0.3, 0.7)))
    if kind == 2:
        return box(-1.4, -0.1, 1.4, 0.1, radius=0.05)
    if kind == 3:
        leaf = [(-1.0, 0.0), (-0.3, -0.4), (0.5, -0.25), (1.0, 0.0), (0.4, 0.3), (-0.4, 0.35), (-1.0, 0.0)]
        return spline(leaf)
    corners: list[Point] = [(-0.7, 0.5), (-0.5, -0.4), (0.1, -0.75), (0.75, -0.3), (0.6, 0.6)]
    return [(x + rng.uniform(-0.2, 0.2), y + rng.uniform(-0.2, 0.2)) for x, y in corners]


def noise_field(size: Size, rng: Random, cells: tuple[int, ...]) -> _Field:
    """Returns noise in 0..1 of shape (height, width), summed over grids of so many ``cells``, the first strongest."""
    grain = np.random.default_rng(rng.getrandbits(64))
    total = np.zeros((size[1], size[0]), np.float32)
    for level, count in enumerate(cells):
        grid = grain.integers(0, 256, (max(2, count * 3 // 4), count), np.uint8)
        smooth = Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)
        total += np.asarray(smooth, np.float32) / 255 / 2**level
    low, high = float(total.min()), float(total.max())
    total -= low
    total /= max(high - low, 1e-6)
    return total


def _between(field: _Field, first: Colour, second: Colour) -> Image.Image:
    a, b = np.array(first, np.float32), np.array(second, np.float32)
    mixed = a + field[..., None] * (b - a)
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))


def _colours(rng: Random) -> tuple[Colour, Colour]:
    first = lively(rng, saturation=(0.05, 0.7))
    second = (
        tinted(first, rng.choice([0.55, 0.75, 1.3, 1.5])) if rng.random() < 0.6 else lively(rng, saturation=(0.05, 0.7))
    )
    return first, second


def _ramp(size: Size, rng: Random) -> _Field:
    x, y = np.linspace(-1, 1, size[0], dtype=np.float32), np.linspace(-1, 1, size[1], dtype=np.float32)
    if rng.random() < 0.5:
        a, b = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)
        return np.clip(0.5 + a * x[None, :] + b * y[:, None], 0, 1)
    dx, dy = rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6)
    return np.clip(np.sqrt((x[None, :] - dx) ** 2 + (y[:, None] - dy) ** 2) / 1.8, 0, 1)


def _gradient(size: Size, rng: Random) -> Image.Image:
    return _between(_ramp(size, rng), *_colours(rng))


def _mottled(size: Size, rng: Random) -> Image.Image:
    cells = rng.choice([(5, 11, 23, 60), (12, 40, 120), (40, 160), (3, 7)])
    return _between(noise_field(size, rng, cells), *_colours(rng))


def _wood(size: Size, rng: Random) -> Image.Image:
    base: Colour = rng.choice([(150, 104, 62), (190, 150, 104), (96, 66, 46), (176, 160, 140)])
    grain = noise_field((size[0], size[1]), rng, (3, 6))
    rings = 0.5 + 0.5 * np.sin(
        grain * rng.uniform(30, 70) + np.linspace(0, rng.uniform(4, 14), size[1], dtype=np.float32)[:, None]
    )
    image = _between(rings.astype(np.float32), tinted(base, 0.82), tinted(base, 1.1))
    pen, plank = ImageDraw.Draw(image), rng.randint(50, 140)
    for y in range(rng.randint(10, plank), size[1], plank):
        pen.line([(0, y), (size[0], y)], fill=tinted(base, 0.4), width=2)
    return image.rotate(90, expand=True).resize(size) if rng.random() < 0.4 else image


def _stripes(size: Size, rng: Random) -> Image.Image:
    """Draws stripes at any angle, or two sets of them crossing at right angles."""
    angle, step, share = rng.uniform(0, pi), rng.uniform(12, 70), rng.uniform(0.2, 0.6)
    across = _bands(size, angle, step, share)
    if rng.random() < 0.4:
        across = (across + _bands(size, angle + pi / 2, step, share)) / np.float32(2)
    return _between(across, *_colours(rng))


def _bands(size: Size, angle: float, step: float, share: float) -> _Field:
    """Returns 1 within and 0 between bands that are ``share`` of a ``step`` wide, their edges a pixel soft."""
    x, y = (np.arange(length, dtype=np.float32) for length in size)
    along = (np.float32(cos(angle)) * x[None, :] + np.float32(sin(angle)) * y[:, None]) % np.float32(step)
    bands: _Field = np.clip(np.minimum(along, np.float32(share * step) - along), 0, 1).astype(np.float32)
    return bands


def _tiles(size: Size, rng: Random) -> Image.Image:
    first, second = _colours(rng)
    image = Image.new("RGB", size, tinted(first, 0.6))
    pen, step, is_checked = ImageDraw.Draw(image), rng.randint(28, 90), rng.random() < 0.5
    for row, y in enumerate(range(-step // 2, size[1], step)):
        for column, x in enumerate(range(-step // 3, size[0], step)):
            colour = second if is_checked and (row + column) % 2 else first
            pen.rectangle((x, y, x + step - 3, y + step - 3), fill=tinted(colour, rng.uniform(0.93, 1.07)))
    return image


def _lights(size: Size, rng: Random) -> Image.Image:
    """Draws lights far out of focus, at half the size, since nothing in them is sharp."""
    half = (size[0] // 2, size[1] // 2)
    image = _between(_ramp(half, rng), tinted(lively(rng), 0.35), tinted(lively(rng), 0.5))
    for _ in range(rng.randint(8, 24)):
        layer, radius = Image.new("L", half), rng.uniform(4, 21)
        x, y = rng.uniform(0, half[0]), rng.uniform(0, half[1])
        ImageDraw.Draw(layer).ellipse((x - radius, y - radius, x + radius, y + radius), fill=rng.randint(40, 130))
        image.paste(tinted(lively(rng), 1.3), (0, 0), layer)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(1, 2.5))).resize(size, Image.Resampling.BICUBIC)


def _room(size: Size, rng: Random) -> Image.Image:
    """Draws a wall over a table or floor."""
    wall = rng.choice([_gradient, _mottled, _stripes])(size, rng)
    table = rng.choice([_gradient, _mottled, _wood])(size, rng)
    edge = round(size[1] * rng.uniform(0.45, 0.7))
    wall.paste(table.crop((0, edge, *size)), (0, edge))
    ImageDraw.Draw(wall).line([(0, edge), (size[0], edge)], fill=tinted(lively(rng), 0.4), width=rng.randint(1, 5))
    return wall
