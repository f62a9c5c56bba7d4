"""Puts an object into a scene: background, shadow, things in front of it, light, and a camera's faults."""

from math import cos, pi, sin
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from penult.pipeline.demo.drawings.canvas import Canvas, box, moved, oval, random_colour, tinted


def compose(thing: Image.Image, rng: Random, *, largest_turn: float) -> Image.Image:
    """Returns an image of the object in a random scene, turned by at most ``largest_turn`` degrees."""
    size = rng.choice([(320, 240), (360, 270), (400, 300), (480, 360), (360, 360), (300, 400)])
    picture = _pattern(size, rng)
    if rng.random() < 0.2:  # a wall above a floor
        edge = round(size[1] * rng.uniform(0.45, 0.7))
        picture.paste(_pattern(size, rng).crop((0, edge, *size)), (0, edge))
    _scatter(picture, rng, rng.choice([0, 3, 6, 12]))
    picture = picture.filter(ImageFilter.BoxBlur(rng.triangular(0, 3, 0)))
    side, stretch = min(size) * rng.triangular(0.3, 1.05, 0.65), rng.uniform(0.9, 1.1)
    thing = thing.resize((round(side * stretch), round(side / stretch)), Image.Resampling.BICUBIC)
    thing = thing.rotate(rng.triangular(-largest_turn, largest_turn, 0), Image.Resampling.BICUBIC, expand=True)
    x, y = (round(rng.triangular(0, max(length - side, 0)) + side / 2) for length in size)
    layer = Image.new("RGBA", size)
    layer.paste(thing, (x - thing.width // 2, y - thing.height // 2))
    shadow, strength = Image.new("L", size), rng.uniform(0.15, 0.6)
    shadow.paste(layer.getchannel("A"), (rng.randint(-14, 14), rng.randint(2, 16)))
    shadow = shadow.filter(ImageFilter.BoxBlur(rng.uniform(2, 10))).point([round(v * strength) for v in range(256)])
    picture.paste((8, 8, 14), (0, 0), shadow)
    picture.paste(layer, (0, 0), layer)
    _scatter(picture, rng, rng.choice([0, 1, 3, 6]))
    return _photographed(picture, rng)


def _pattern(size: tuple[int, int], rng: Random) -> Image.Image:
    """Returns a background in two colours: clouds, cloth, wood, stripes or a check."""
    y, x = np.ogrid[0 : size[1], 0 : size[0]]
    angle, step = rng.uniform(0, pi), rng.uniform(12, 70)
    along, across = ((x * cos(a) + y * sin(a)).astype(np.float32) for a in (angle, angle + pi / 2))
    kind = rng.choice(["noise", "noise", "noise", "wood", "bands", "bands"])
    if kind == "noise":
        field = (_noise(size, rng, rng.choice([2, 4, 40])) + _noise(size, rng, rng.choice([3, 12, 160]))) / 2
    elif kind == "wood":
        field = 0.5 + 0.5 * np.sin(along / step + rng.uniform(20, 50) * _noise(size, rng, 4))
    else:
        stripes, crossing = (np.clip(step * np.sin(pi / step * way), 0, 1) for way in (along, across))
        field = rng.choice([stripes, (stripes + crossing) / 2, np.abs(stripes - crossing)])
    first = random_colour(rng, 0.05, 0.7)
    second = rng.choice([tinted(first, 0.55), tinted(first, 0.75), tinted(first, 1.3), random_colour(rng, 0.05, 0.7)])
    picture = Image.new("RGB", size, first)
    picture.paste(second, (0, 0), Image.fromarray((field * 255).astype(np.uint8)))
    return picture


def _noise(size: tuple[int, int], rng: Random, cells: int) -> NDArray[np.float32]:
    """Returns smooth noise from 0 to 1, from a random grid of ``cells`` by ``cells``."""
    grid = np.random.default_rng(rng.getrandbits(64)).integers(0, 256, (cells, cells), np.uint8)
    return np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC), np.float32) / np.float32(255)


def _scatter(picture: Image.Image, rng: Random, count: int) -> None:
    """Draws simple things that belong to no class: discs, tiles, sticks and pebbles."""
    canvas = Canvas(picture.width * 2, picture.height * 2)  # reduced later, for smooth edges
    for _ in range(count):
        disc = oval(0, 0, 0.8, rng.uniform(0.2, 0.8))
        shape = rng.choice([disc, disc[::12], disc[::15], box(-4, -0.1, 4, 0.1)])
        turned = moved(shape, 0, 0, scale=rng.uniform(0.1, 0.4), degrees=rng.uniform(0, 360))
        shape, colour = moved(turned, rng.uniform(-1.3, 1.3), rng.uniform(-1, 1)), random_colour(rng, 0.1, 0.8)
        canvas.fill(shape + 0.02, tinted(colour, 0.3))
        canvas.fill(shape, colour)
    layer = canvas.image.reduce(2)
    picture.paste(layer, (0, 0), layer)


def _photographed(picture: Image.Image, rng: Random) -> Image.Image:
    """Returns the picture as a camera sees it: blurred, in uneven coloured light, with noise."""
    picture = picture.filter(ImageFilter.BoxBlur(rng.triangular(0, 2.5, 0)))
    tone = np.array(rng.choice([(1, 1, 1), (1, 0.95, 0.84), (0.88, 0.96, 1)]), np.float32)
    dim, contrast, strength = rng.uniform(0.6, 0.98), rng.uniform(0.6, 1.2), rng.choice([2, 5, 10, 20])
    pixels = np.asarray(picture) * tone * (dim + (1.16 - dim) * _noise(picture.size, rng, 2)[..., None])
    grey = pixels.mean()
    pixels = ((pixels - grey) * contrast + grey) * rng.uniform(0.6, 1.4)
    pixels += np.random.default_rng(rng.getrandbits(64)).integers(-strength, strength + 1, pixels.shape, np.int8)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
