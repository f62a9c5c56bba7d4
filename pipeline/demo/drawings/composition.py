"""Puts an object into a scene: size, turn, shadow, things in front of it, light, and the camera's own faults."""

from io import BytesIO
from math import cos, radians, sin
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from penult.pipeline.demo.drawings.outlines import box, moved
from penult.pipeline.demo.drawings.scenes import draw_scene, noise_field, scatter
from penult.pipeline.demo.drawings.sticker import Sticker, lively, tinted


def compose(sticker: Sticker, rng: Random, *, largest_turn: float) -> Image.Image:
    """Returns a picture of the object, turned by at most ``largest_turn`` degrees either way."""
    size = rng.choice([(320, 240), (360, 270), (400, 300), (480, 360), (360, 360), (300, 400)])
    picture = draw_scene(size, rng)
    side = round(min(size) * rng.triangular(0.42, 1.08, 0.85))
    thing = _turned(sticker.image, side, rng.triangular(-largest_turn, largest_turn, 0), rng)
    corner = tuple(round(rng.triangular(0, max(length - side, 0))) for length in size)
    layer = Image.new("RGBA", size, (0, 0, 0, 0))
    layer.paste(thing, (corner[0], corner[1]))
    _cast_shadow(picture, layer.getchannel("A"), rng)
    picture.paste(layer, (0, 0), layer)
    if rng.random() < 0.3:
        _cover(picture, rng)
    return _filmed(picture, rng)


def encode(picture: Image.Image, suffix: str, rng: Random) -> bytes:
    """Returns the bytes of an image file of the format that ``suffix`` names."""
    buffer = BytesIO()
    if suffix == ".png":
        picture.save(buffer, "PNG", compress_level=4)
    else:
        picture.save(buffer, "JPEG", quality=rng.randint(78, 94))
    return buffer.getvalue()


def _turned(image: Image.Image, side: int, degrees: float, rng: Random) -> Image.Image:
    """Returns the object ``side`` pixels wide before it is squeezed, slanted and turned."""
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    squeeze, slant = rng.uniform(0.84, 1.0), rng.uniform(-0.12, 0.12)
    if rng.random() < 0.5:
        squeeze = 1 / squeeze
    c, s = cos(radians(degrees)), sin(radians(degrees))
    # Pillow's matrix leads from the result back to the source: undo the turn, then slant and squeeze.
    a, b = c * squeeze + slant * s, s * squeeze - slant * c
    d, e = -s / squeeze, c / squeeze
    half = side / 2
    matrix = (a, b, half - half * (a + b), d, e, half - half * (d + e))
    # Premultiplied once here, instead of by Pillow before and after each of the two steps.
    small = image.convert("RGBa").resize((side, side), Image.Resampling.BICUBIC)
    turned = small.transform(small.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return turned.convert("RGBA")


def _cast_shadow(picture: Image.Image, shape: Image.Image, rng: Random) -> None:
    shadow = Image.new("L", shape.size)
    shadow.paste(shape, (rng.randint(-14, 14), rng.randint(2, 16)))
    strength = rng.uniform(0.15, 0.6)
    soft = shadow.filter(ImageFilter.BoxBlur(rng.uniform(2, 10)))
    picture.paste((8, 8, 14), (0, 0), soft.point([round(v * strength) for v in range(256)]))


def _cover(picture: Image.Image, rng: Random) -> None:
    """Lays a bar or some clutter over the picture, and so over a part of the object."""
    if rng.random() < 0.5:
        scatter(picture, rng, rng.randint(1, 4))
        return
    colour, width = lively(rng, saturation=(0.1, 0.7)), rng.uniform(5, 24)
    centre = (picture.width * rng.uniform(0.2, 0.8), picture.height * rng.uniform(0.2, 0.8))
    bar = moved(box(-600, -width / 2, 600, width / 2), centre, degrees=rng.uniform(0, 180))
    pen = ImageDraw.Draw(picture)
    pen.polygon([(x + 3, y + 4) for x, y in bar], fill=tinted(colour, 0.35))
    pen.polygon(bar, fill=colour)


def _filmed(picture: Image.Image, rng: Random) -> Image.Image:
    """Returns what a camera makes of the picture: uneven and coloured light, some blur, contrast and grain."""
    if rng.random() < 0.35:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 2.0)))
    if rng.random() < 0.05:
        picture = picture.convert("L").convert("RGB")
    light = noise_field(picture.size, rng, (2, 3))
    dim, brightness = rng.uniform(0.6, 0.98), rng.triangular(0.65, 1.4, 1.1)
    tone = np.array(rng.choice([(1.0, 1.0, 1.0), (1.0, 0.95, 0.84), (0.88, 0.96, 1.0)]), np.float32)
    pixels = np.asarray(picture, np.float32) * tone
    pixels *= ((1.16 - dim) * light + dim)[..., None]
    grey = float(pixels[::8, ::8].mean())
    contrast, strength = rng.uniform(0.7, 1.2), rng.choice([2, 4, 8, 18])
    pixels -= grey
    pixels *= contrast * brightness
    pixels += grey * brightness
    grain = np.random.default_rng(rng.getrandbits(64))
    pixels += grain.integers(-strength, strength + 1, pixels.shape, np.int8)
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))
