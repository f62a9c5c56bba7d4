"""Draws an object of each class, in several kinds: card, cube, hat, screw and torch."""

from math import cos, radians, sin
from random import Random

import numpy as np
from PIL import Image

from penult.pipeline.demo.drawings.canvas import (
    Canvas,
    Colour,
    box,
    curve,
    moved,
    oval,
    random_colour,
    symmetric,
    tinted,
)

_RED, _BLACK, _WHITE, _GOLD = (200, 36, 46), (30, 30, 36), (246, 244, 236), (232, 184, 52)
_HEART = symmetric(curve([(0, -0.45), (0.35, -0.85), (0.85, -0.65), (0.85, -0.15), (0.4, 0.4), (0, 0.9)]))
_STEM = np.array([(0, 0.1), (0.3, 0.95), (-0.3, 0.95)])
_CLUB = [oval(0, -0.5, 0.4, 0.4), oval(0.45, 0.15, 0.4, 0.4), oval(-0.45, 0.15, 0.4, 0.4), _STEM]
_SUITS = [[_HEART], [oval(0, 0, 0.7, 0.95)[::15]], [_HEART * (1, -0.9), _STEM], _CLUB]
# The places of the symbols in the upper half of a card: four rows of three, numbered in hexadecimal from the top left.
_CARD = {"A": "a", "2": "1", "3": "1a", "4": "02", "5": "02a", "6": "029b", "8": "029b4", "9": "0268a", "10": "02684"}


def draw_card(canvas: Canvas, rng: Random) -> None:
    """Draws a single playing card, a pair, a fan or a stack."""
    count, spread, radius = rng.choice([(1, 0, 0), (1, 0, 0), (2, 35, 0.7), (rng.randint(3, 5), 17, 0.9), (5, 5, 0)])
    for i in range(count):
        degrees = (i - (count - 1) / 2) * spread * rng.uniform(0.8, 1.2)
        x, y = radius * sin(radians(degrees)), radius * (1 - cos(radians(degrees)))
        corners = moved(box(-0.7, -1, 0.7, 1), x, y, scale=0.95 if count == 1 else 0.72, degrees=degrees)
        canvas.place(_card(rng), corners)


def _card(rng: Random) -> Image.Image:
    card, colour, suit = Canvas(210, 300), random_colour(rng, 0.6, 1), rng.randrange(4)
    # Sevens are left out, because their halves differ.
    rank, ink = rng.choice([*_CARD, "J", "Q", "K"]), _RED if suit < 2 else _BLACK
    card.fill(oval(0, 0, 0.69, 0.99, power=0.1), (130, 128, 124))
    card.fill(oval(0, 0, 0.68, 0.98, power=0.1), _WHITE)
    if rng.random() < 0.22:
        card.fill(oval(0, 0, 0.6, 0.9, power=0.1), colour)
        dot = oval(0, 0, 0.06, 0.06)[:: rng.choice([1, 15])]
        for x, y in np.mgrid[-0.5:0.51:0.125, -0.8:0.81:0.125].reshape(2, -1).T:
            card.fill(moved(dot, x, y), tinted(colour, 1.55))
        return card.image
    for is_upright in (False, True):  # Both halves of a front are the same drawing.
        card.image = card.image.rotate(180)
        card.write(rank, -0.54, -0.8, 0.22, ink)
        # The lowest row belongs to both halves, and is drawn once.
        places = [int(place, 16) for place in _CARD.get(rank, "") if is_upright or place < "9"]
        symbols = [(0.34 * (i % 3 - 1), 0.227 * (i // 3) - 0.68, 0.45 if rank == "A" else 0.16) for i in places]
        if rank in "JQK":
            card.fill(box(-0.42, -0.74, 0.42, 0), tinted(_GOLD, 1.75))
            card.fill(np.array([(-0.42, 0), (-0.34, -0.25), (0.34, -0.25), (0.42, 0)]), colour)
            card.fill(oval(0, -0.4, 0.16, 0.2), (240, 206, 174))
            card.fill(symmetric(np.array([(0.2, -0.5), (0.22, -0.7), (0, -0.6)])), _GOLD)
        for x, y, size in [(-0.54, -0.6, 0.08), *symbols]:
            for part in _SUITS[suit]:
                card.fill(moved(part, x, y, scale=size), ink)
    return card.image


def draw_cube(canvas: Canvas, rng: Random) -> None:
    """Draws a plain cube, die, puzzle cube, crate, letter block or parcel, seen from above."""
    kind = rng.choice(["plain", "die", "puzzle", "crate", "letters", "parcel"])
    colour, other, numbers = random_colour(rng), random_colour(rng), rng.sample(range(6), 3)
    yaw, pitch = radians(rng.uniform(15, 75)), radians(rng.uniform(18, 45))
    # The three edges of the cube as they appear in the picture: to the right, to the left, and down.
    edges = [(cos(yaw), sin(pitch) * sin(yaw)), (-sin(yaw), sin(pitch) * cos(yaw)), (0, cos(pitch))]
    right, left, down = np.array(edges)
    lights = [1.0, *rng.sample([rng.uniform(0.7, 0.9), rng.uniform(0.4, 0.65)], 2)]
    for i, (normal, across, along) in enumerate([(-down, right, left), (right, -left, down), (left, right, down)]):
        face = _cube_face(rng, kind, colour, other, numbers[i])
        face = face.convert("RGB").point([round(v * lights[i]) for v in range(256)] * 3).convert("RGBA")
        corner = (normal - across - along) / 2
        canvas.place(face, np.array([corner, corner + across, corner + across + along]) * 1.1)


def _cube_face(rng: Random, kind: str, colour: Colour, other: Colour, number: int) -> Image.Image:
    face = Canvas(200, 200)
    face.fill(box(-1, -1, 1, 1), _BLACK if kind == "puzzle" else tinted(colour, 0.85))
    if kind == "die":
        face.fill(oval(0, 0, 0.98, 0.98, power=0.3), tinted(colour, 1.7))
        for i in map(int, ["4", "08", "048", "0268", "02468", "023568"][number]):
            face.fill(oval(0.52 * (i % 3 - 1), 0.52 * (i // 3 - 1), 0.17, 0.17), _BLACK)
    elif kind == "puzzle":
        palette = [_RED, (34, 92, 190), (30, 150, 84), (240, 200, 40), (242, 128, 34), _WHITE]
        for i in range(9):
            face.fill(oval(0.65 * (i % 3 - 1), 0.65 * (i // 3 - 1), 0.29, 0.29, power=0.2), rng.choice(palette))
    elif kind == "crate":
        for y in np.arange(-1, 1, 0.4):
            face.fill(box(-1, y, 1, y + 0.37), tinted((182, 132, 80), rng.uniform(0.85, 1.15)))
        face.line(np.array([(-1, -1), (1, 1)]), (140, 98, 62), 0.2)
        face.line(box(-1, -1, 1, 1)[[0, 1, 2, 3, 0]], (200, 150, 96), 0.4)
    elif kind == "letters":
        face.fill(box(-0.85, -0.85, 0.85, 0.85), (236, 212, 170))
        face.write("AEHKMZ"[number], 0, 0, 1.5, colour)
    elif kind == "parcel":
        face.fill(box(-0.18, -1, 0.18, 1), other)
        face.fill(box(-1, -0.18, 1, 0.18), other)
    return face.image


# The right half of a crown from base to top, in half widths and heights; then half width, height, brim, curl of brim.
_DOME = curve([(1, 0), (1.02, 0.5), (0.7, 0.86), (0.3, 0.99), (0, 1)])
_DENTED = curve([(1, 0), (0.95, 0.4), (0.85, 0.9), (0.5, 1), (0, 0.8)])
_HATS = {
    "top hat": (curve([(1, 0), (0.94, 0.5), (1.05, 1)]), 0.46, 1.05, 0.9, 0.06),
    "bowler": (_DOME, 0.53, 0.72, 0.8, 0.1),
    "fedora": (_DENTED, 0.5, 0.75, 0.92, -0.08),
    "cowboy hat": (_DENTED, 0.48, 0.78, 0.97, 0.32),
    "cap": (_DOME, 0.62, 0.85, 0, 0),
    "beanie": (_DOME, 0.62, 0.95, 0, 0),
    "party hat": (np.array([(1, 0), (0, 1)]), 0.5, 1.4, 0, 0),
}


def draw_hat(canvas: Canvas, rng: Random) -> None:
    """Draws a hat with a brim, a cap, a beanie or a party hat."""
    kind = rng.choice(sorted(_HATS))
    half_crown, half, height, brim, curl = _HATS[kind]
    half, height, tilt = half * rng.uniform(0.9, 1.1), height * rng.uniform(0.85, 1.1), rng.uniform(0.14, 0.3)
    colour, other = rng.choice([_BLACK, (150, 105, 62), *[random_colour(rng)] * 3]), random_colour(rng)
    base = height / 2
    if brim:
        edge = oval(0, base, brim, brim * tilt)
        edge[:, 1] -= curl * (edge[:, 0] / brim) ** 4
        canvas.shade(edge, tinted(colour, 0.85))
    crown = symmetric(half_crown * (half, -height) + (0, base))
    canvas.shade(np.concatenate([crown, oval(0, base, half, half * tilt, 180, 0)]), colour)
    if kind == "top hat":
        canvas.shade(oval(0, base - height, half * 1.05, half * tilt), tinted(colour, 1.12), flat=True)
    if kind == "cap":
        visor = curve([(0, 0.02), (0.5, -0.14), (1.1 - half / 3, 0), (0.95, 0.14), (0.6, 0.22), (0, 0.18)])
        canvas.shade(moved(visor * (rng.choice([-1, 1]), 1), 0, base), rng.choice([colour, other]), flat=True)
        canvas.line(oval(0, base, 0.2, height, 180, 360), tinted(colour, 0.6), 0.012)
    bands = {"party hat": [(0.2, 0.1), (0.5, 0.1)], "beanie": [(-0.05, 0.35)], "cap": []}
    for y, high in bands.get(kind, [(0.01, rng.uniform(0.1, 0.22))]):
        lower = oval(0, base - y * height, half * (1 - y), half * tilt, 180, 0)
        canvas.shade(np.concatenate([lower, lower[::-1] - (0, high)]), other)
    if kind in {"beanie", "party hat"}:
        canvas.shade(oval(0, base - height, 0.14, 0.14), tinted(other, 1.3))


def draw_torch(canvas: Canvas, rng: Random) -> None:
    """Draws a burning torch, or a hand torch, lit or not."""
    neck, wide = rng.uniform(-0.4, 0), rng.uniform(0.2, 0.34)
    if rng.random() < 0.45:
        colour: Colour = rng.choice([(122, 84, 52), (92, 62, 40), (206, 170, 76), (190, 194, 200)])
        canvas.shade(symmetric(np.array([(wide * 0.8, neck), (0.06, 0.95)])), colour)
        canvas.shade(box(-wide * 0.8, neck, wide * 0.8, neck + 0.16), tinted(colour, rng.choice([0.7, 1.4])))
        flame = [(0, 0), (-0.42, -0.1), (-0.5, -0.45), (-0.26, -0.8), (-0.2, -1.1), (0.02, -1.5), (0.14, -1)]
        outline = curve([*flame, (0.36, -0.85), (0.5, -0.4), (0.4, -0.08), (0, 0)])
        layers = [(0.5, (214, 62, 20)), (0.4, (246, 128, 26)), (0.27, (255, 200, 60)), (0.14, (255, 246, 200))]
        for size, fire in layers:
            canvas.fill(moved(outline, 0, neck, scale=size, degrees=rng.uniform(-9, 9)), fire)
        return
    colour = rng.choice([(48, 48, 54), (150, 154, 160), random_colour(rng), random_colour(rng)])
    half, head, is_lit = rng.uniform(0.09, 0.19), neck - rng.uniform(0.2, 0.4), rng.random() < 0.6
    for far in np.linspace(1, 0, 30) if is_lit else []:  # The beam is a stack of shorter and brighter cones.
        beam = np.array([(wide, head), (wide + 0.3 * far, head - far * (1 + head))])
        canvas.fill(symmetric(beam), (255, 244, 190, round(150 * (1 - far))))
    canvas.shade(box(-half, neck, half, 0.9), colour)
    for y in np.arange(0.4, rng.uniform(0.6, 0.9), 0.075):
        canvas.line(oval(0, y, half, half * 0.35, 0, 180), tinted(colour, 0.55), 0.022)
    bell = np.array([(half, neck + 0.06), (wide, neck - 0.1), (wide, head)])
    canvas.shade(symmetric(bell), tinted(colour, rng.uniform(0.7, 1.15)))
    canvas.shade(oval(0, head, wide, wide * 0.36), tinted(colour, 0.8))
    canvas.fill(oval(0, head, wide * 0.84, wide * 0.28), (255, 250, 214) if is_lit else (150, 166, 178))
    canvas.fill(oval(0, neck + 0.25, 0.05, 0.09, power=0.4), rng.choice([_RED, _BLACK]))


def draw_screw(canvas: Canvas, rng: Random) -> None:
    """Draws a screw or a hex bolt from the side, or a head from above."""
    metal = tinted(rng.choice([(160, 164, 172), (206, 172, 92), (186, 126, 84)]), rng.uniform(0.4, 1.2))
    kind, wide = rng.choice(["wood screw", "machine screw", "hex bolt", "from above"]), rng.uniform(0.28, 0.38)
    hexagon, slot = oval(0, 0, 1, 1)[::10], box(-0.75, -0.14, 0.75, 0.14)
    top, rx, ry = (0.0, 0.75, 0.75) if kind == "from above" else (-0.85, wide, wide * 0.25)
    if kind == "from above":
        canvas.shade(rng.choice([hexagon, oval(0, 0, 1, 1)]) * 0.9, tinted(metal, 0.75), flat=True)
    else:
        _draw_shaft(canvas, rng, metal, is_pointed=kind == "wood screw")
    if kind == "hex bolt":
        for left, right, light in ((-1, -0.5, 0.75), (-0.5, 0.5, 1.2), (0.5, 1, 0.6)):
            canvas.fill(box(left * wide, top, right * wide, top + 0.25), tinted(metal, light))
    elif kind != "from above":
        canvas.shade(symmetric(np.array([(rng.choice([0.1, wide]), -0.62), (wide, top)])), metal)
    canvas.shade(oval(0, top, rx, ry), tinted(metal, 1.25), flat=True)
    for part in rng.choice([[slot], [slot, slot[:, ::-1]], [hexagon * 0.5]]) if kind != "hex bolt" else []:
        canvas.fill(part * (rx, ry) + (0, top), tinted(metal, 0.35))


def _draw_shaft(canvas: Canvas, rng: Random, metal: Colour, *, is_pointed: bool) -> None:
    half, top, end = rng.uniform(0.1, 0.19), rng.uniform(-0.45, 0), rng.uniform(0.6, 0.95)
    tip, shoulder = (0.01, end - 0.3) if is_pointed else (half, end - 0.001)
    canvas.shade(box(-half * 0.8, -0.7, half * 0.8, top), metal)
    canvas.shade(symmetric(np.array([(half, top), (half, shoulder), (tip, end)]) * (0.75, 1)), tinted(metal, 0.8))
    for y in np.arange(top, end - 0.05, half * 0.6):
        left, right = np.interp([y, y + half * 0.3], [shoulder, end], [half, tip])
        canvas.line(np.array([(-left, y + half * 0.25), (right, y + half * 0.5)]), tinted(metal, 0.4), 0.03)
        canvas.line(np.array([(-left, y), (right, y + half * 0.25)]), tinted(metal, 1.15), 0.03)
