"""Playing cards: fronts with pips, court cards, backs, pairs, fans and stacks."""

from math import cos, radians, sin
from random import Random

from PIL import Image, ImageDraw, ImageFont

from penult.pipeline.demo.drawings.outlines import Outline, Point, mirrored, moved, oval, spline
from penult.pipeline.demo.drawings.sticker import Colour, Sticker, lively, tinted

_WIDTH, _HEIGHT = 250, 350
_TALL = 1.25
_RED, _BLACK = (196, 30, 44), (28, 28, 34)
_HEART = spline([(0, -0.45), (0.35, -0.85), (0.85, -0.65), (0.85, -0.15), (0.4, 0.4), (0, 0.85)])
_LEAF = spline([(0, -0.9), (0.3, -0.45), (0.8, 0.0), (0.75, 0.45), (0.4, 0.55), (0.08, 0.3)])
_STEM: Outline = [(0.06, 0.2), (0.28, 0.9), (-0.28, 0.9), (-0.06, 0.2)]
_SUITS: dict[str, tuple[Colour, list[Outline]]] = {
    "heart": (_RED, [[*_HEART, *mirrored(_HEART)]]),
    "diamond": (_RED, [[(0, -0.95), (0.68, 0), (0, 0.95), (-0.68, 0)]]),
    "spade": (_BLACK, [[*_LEAF, *mirrored(_LEAF)], _STEM]),
    "club": (_BLACK, [oval(c, (0.38, 0.38)) for c in ((0.0, -0.48), (0.44, 0.16), (-0.44, 0.16))] + [_STEM]),
}
_ROWS = {
    "left": {4: (-1, 1), 6: (-1, 0, 1), 8: (-1, -1 / 3, 1 / 3, 1)},
    "middle": {0: (), 1: (0.0,), 2: (-1.0, 1.0), 3: (-1.0, 0.0, 1.0)},
}
_LAYOUT = {
    1: (0, 1),
    2: (0, 2),
    3: (0, 3),
    4: (4, 0),
    5: (4, 1),
    6: (6, 0),
    7: (6, 1),
    8: (6, 2),
    9: (8, 1),
    10: (8, 2),
}


def draw_card(rng: Random) -> Sticker:
    """Draws one card, or a few of them, face up or down."""
    sticker = Sticker()
    rng.choice([_single, _single, _single, _pair, _fan, _stack])(sticker, rng)
    return sticker


def _single(sticker: Sticker, rng: Random) -> None:
    sticker.stick(_any_side(rng), (0, 0), height=_TALL)


def _pair(sticker: Sticker, rng: Random) -> None:
    lean = rng.uniform(8, 24)
    sticker.stick(_any_side(rng), (-0.25, 0.05), height=_TALL, degrees=-lean)
    sticker.stick(_front(rng), (0.25, 0.02), height=_TALL, degrees=lean)


def _fan(sticker: Sticker, rng: Random) -> None:
    count, spread = rng.randint(3, 5), rng.uniform(12, 20)
    for i in range(count):
        degrees = (i - (count - 1) / 2) * spread
        centre = (0.9 * sin(radians(degrees)), 0.95 - 0.9 * cos(radians(degrees)))
        sticker.stick(_front(rng), centre, height=0.8 * _TALL, degrees=degrees)


def _stack(sticker: Sticker, rng: Random) -> None:
    for i in range(rng.randint(3, 6)):
        shift = (rng.uniform(-0.05, 0.05) + i * 0.012, rng.uniform(-0.05, 0.05) - i * 0.012)
        sticker.stick(_blank(), shift, height=_TALL, degrees=rng.uniform(-7, 7))
    sticker.stick(_any_side(rng), (0.03, -0.03), height=_TALL, degrees=rng.uniform(-7, 7))


def _any_side(rng: Random) -> Image.Image:
    return _back(rng) if rng.random() < 0.22 else _front(rng)


def _blank(colour: Colour = (250, 249, 244)) -> Image.Image:
    image = Image.new("RGBA", (_WIDTH, _HEIGHT), (0, 0, 0, 0))
    ImageDraw.Draw(image).rounded_rectangle(
        (0, 0, _WIDTH - 1, _HEIGHT - 1), 20, fill=colour, outline=(120, 118, 114), width=3
    )
    return image


def _front(rng: Random) -> Image.Image:
    image = _blank(rng.choice([(252, 251, 247), (246, 240, 226), (238, 240, 244)]))
    pen = ImageDraw.Draw(image)
    rank, suit = rng.randint(1, 13), rng.choice(sorted(_SUITS))
    if rank > 10:
        _court(pen, suit, rng)
    else:
        _pips(pen, rank, suit)
    _corner(image, "A" if rank == 1 else "JQK"[rank - 11] if rank > 10 else str(rank), suit)
    return image


def _suit(pen: ImageDraw.ImageDraw, suit: str, centre: Point, size: float, *, degrees: float = 0.0) -> None:
    colour, outlines = _SUITS[suit]
    for outline in outlines:
        pen.polygon(moved(outline, centre, scale=size, degrees=degrees), fill=colour)


def _pips(pen: ImageDraw.ImageDraw, rank: int, suit: str) -> None:
    sides, middle = _LAYOUT[rank]
    size = 72.0 if rank == 1 else 27.0
    spots = [(x, y) for x in (-56, 56) for y in _ROWS["left"].get(sides, ())]
    spots += [(0, y * (0.66 if rank > 6 else 1)) for y in _ROWS["middle"][middle]]
    for x, y in spots:
        _suit(pen, suit, (_WIDTH / 2 + x, _HEIGHT / 2 + y * 118), size, degrees=180 if y > 0.1 else 0)


def _court(pen: ImageDraw.ImageDraw, suit: str, rng: Random) -> None:
    robe, trim = lively(rng, saturation=(0.6, 1)), (232, 184, 52)
    x, y = _WIDTH / 2, _HEIGHT / 2
    pen.rectangle((46, 40, _WIDTH - 46, _HEIGHT - 40), fill=tinted(trim, 1.75), outline=tinted(robe, 0.6), width=3)
    for degrees in (0, 180):
        for outline, colour in (
            ([(-76, 0), (-60, -44), (60, -44), (76, 0)], robe),
            ([(-20, 0), (-26, -46), (26, -46), (20, 0)], trim),
            (oval((0, -74), (27, 34)), (240, 206, 174)),
            ([(-34, -92), (-36, -128), (-16, -108), (0, -132), (16, -108), (36, -128), (34, -92)], trim),
            (oval((-10, -78), (3, 4)), _BLACK),
            (oval((10, -78), (3, 4)), _BLACK),
        ):
            pen.polygon(moved(outline, (x, y), degrees=degrees), fill=colour)
        _suit(pen, suit, moved([(-60, -112)], (x, y), degrees=degrees)[0], 15, degrees=degrees)


def _corner(image: Image.Image, rank: str, suit: str) -> None:
    """Writes rank and suit into two opposite corners."""
    mark = Image.new("RGBA", image.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(mark)
    pen.text((25, 32), rank, fill=_SUITS[suit][0], font=ImageFont.load_default(38), anchor="mm")
    _suit(pen, suit, (25, 66), 13)
    image.alpha_composite(mark)
    image.alpha_composite(mark.rotate(180))


def _back(rng: Random) -> Image.Image:
    image, colour = _blank(), lively(rng, saturation=(0.6, 1))
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((16, 16, _WIDTH - 17, _HEIGHT - 17), 10, fill=colour)
    step, pattern = rng.choice([18, 24, 32]), rng.choice(["lattice", "dots", "rings"])
    pale = tinted(colour, 1.55)
    for x in range(16 + step // 2, _WIDTH - 20, step):
        for y in range(16 + step // 2, _HEIGHT - 20, step):
            if pattern == "lattice":
                pen.polygon([(x, y - step / 3), (x + step / 3, y), (x, y + step / 3), (x - step / 3, y)], fill=pale)
            elif pattern == "dots":
                pen.ellipse((x - step / 5, y - step / 5, x + step / 5, y + step / 5), fill=pale)
            else:
                pen.ellipse((x - step / 2.4, y - step / 2.4, x + step / 2.4, y + step / 2.4), outline=pale, width=2)
    pen.rounded_rectangle((24, 24, _WIDTH - 25, _HEIGHT - 25), 8, outline=pale, width=3)
    return image
