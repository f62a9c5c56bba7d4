"""Cubes in perspective: plain, die, colour puzzle, crate, letter block and parcel."""

from collections.abc import Callable
from math import cos, radians, sin
from random import Random

import numpy as np
from numpy.typing import NDArray

from penult.pipeline.demo.drawings.outlines import Outline, Point, box, moved, oval
from penult.pipeline.demo.drawings.sticker import Colour, Sticker, lively, tinted

Vector = NDArray[np.float64]
_PIPS: dict[int, list[Point]] = {
    1: [(0, 0)],
    2: [(-1, -1), (1, 1)],
    3: [(-1, -1), (0, 0), (1, 1)],
    4: [(-1, -1), (1, 1), (-1, 1), (1, -1)],
    5: [(-1, -1), (1, 1), (-1, 1), (1, -1), (0, 0)],
    6: [(-1, -1), (1, 1), (-1, 1), (1, -1), (-1, 0), (1, 0)],
}
_LETTERS: dict[str, list[Outline]] = {
    "A": [[(-0.4, 0.5), (0, -0.5), (0.4, 0.5)], [(-0.22, 0.12), (0.22, 0.12)]],
    "E": [[(0.32, -0.5), (-0.3, -0.5), (-0.3, 0.5), (0.32, 0.5)], [(-0.3, 0), (0.22, 0)]],
    "H": [[(-0.34, -0.5), (-0.34, 0.5)], [(0.34, -0.5), (0.34, 0.5)], [(-0.34, 0), (0.34, 0)]],
    "K": [[(-0.3, -0.5), (-0.3, 0.5)], [(0.34, -0.5), (-0.28, 0.06), (0.36, 0.5)]],
    "M": [[(-0.42, 0.5), (-0.36, -0.5), (0, 0.12), (0.36, -0.5), (0.42, 0.5)]],
    "Z": [[(-0.34, -0.5), (0.34, -0.5), (-0.34, 0.5), (0.34, 0.5)]],
}


class Face:
    """One visible side of a cube: draws in its own square from -1 to 1 and lands in perspective."""

    def __init__(self, sticker: Sticker, place: Callable[[Point], Point], light: float) -> None:
        self._sticker = sticker
        self._place = place
        self._light = light

    def fill(self, points: Outline, colour: Colour) -> None:
        """Fills an outline that is given in the face's own square, lit as the face is."""
        self._sticker.fill([self._place(p) for p in points], tinted(colour, self._light))

    def stroke(self, points: Outline, colour: Colour, width: float) -> None:
        """Draws a line that is given in the face's own square."""
        self._sticker.stroke([self._place(p) for p in points], tinted(colour, self._light), width * 0.5)


def draw_cube(rng: Random) -> Sticker:
    """Draws one cube of a random kind, seen from above."""
    sticker = Sticker()
    decorate = rng.choice([_plain, _die, _puzzle, _crate, _letters, _parcel])(rng)
    for face in _visible_faces(sticker, rng):
        decorate(face)
    return sticker


def _visible_faces(sticker: Sticker, rng: Random) -> list[Face]:
    yaw, pitch = radians(rng.uniform(12, 78)), -radians(rng.uniform(16, 48))
    around = np.array([[cos(yaw), 0, sin(yaw)], [0, 1, 0], [-sin(yaw), 0, cos(yaw)]])
    tipped = np.array([[1, 0, 0], [0, cos(pitch), -sin(pitch)], [0, sin(pitch), cos(pitch)]])
    turn = tipped @ around
    lights = [rng.uniform(0.95, 1.2), rng.uniform(0.72, 0.95), rng.uniform(0.45, 0.7)]
    if rng.random() < 0.5:
        lights[1], lights[2] = lights[2], lights[1]
    sides = (((0, -1, 0), (1, 0, 0), (0, 0, 1)), ((0, 0, 1), (1, 0, 0), (0, 1, 0)), ((-1, 0, 0), (0, 0, 1), (0, 1, 0)))
    distance, size = rng.uniform(4.5, 9), rng.uniform(0.52, 0.58)
    return [
        Face(sticker, _placement(turn, np.array(side, np.float64), distance, size), light)
        for side, light in zip(sides, lights, strict=True)
    ]


def _placement(turn: Vector, side: Vector, distance: float, size: float) -> Callable[[Point], Point]:
    normal, right, down = side

    def place(point: Point) -> Point:
        x, y, z = turn @ (normal + point[0] * right + point[1] * down)
        scale = size * distance / (distance - z)
        return float(x * scale), float(y * scale)

    return place


def _base(face: Face, colour: Colour) -> None:
    face.fill(box(-1, -1, 1, 1), colour)


def _plain(rng: Random) -> Callable[[Face], None]:
    colour, edge = lively(rng), rng.random() < 0.5

    def decorate(face: Face) -> None:
        _base(face, colour)
        if edge:
            face.stroke([*box(-0.98, -0.98, 0.98, 0.98), (-0.98, -0.98)], tinted(colour, 1.35), 0.05)

    return decorate


def _die(rng: Random) -> Callable[[Face], None]:
    colour = rng.choice([(244, 240, 230), (236, 236, 240), lively(rng, saturation=(0.5, 1))])
    pip: Colour = (30, 30, 36) if sum(colour) > 330 else (245, 245, 240)
    counts = rng.sample(range(1, 7), 3)

    def decorate(face: Face) -> None:
        _base(face, tinted(colour, 0.82))
        face.fill(box(-0.98, -0.98, 0.98, 0.98, radius=0.3), colour)
        for x, y in _PIPS[counts.pop()]:
            face.fill(oval((x * 0.52, y * 0.52), (0.17, 0.17)), pip)

    return decorate


def _puzzle(rng: Random) -> Callable[[Face], None]:
    palette = [(200, 40, 46), (34, 92, 190), (30, 150, 84), (240, 200, 40), (242, 128, 34), (242, 242, 242)]
    body: Colour = rng.choice([(24, 24, 28), (235, 235, 235)])
    count, is_solved = rng.choice([2, 3, 3, 4]), rng.random() < 0.3

    def decorate(face: Face) -> None:
        _base(face, body)
        own = rng.choice(palette)
        cell = 2 / count
        for i in range(count * count):
            left, top = -1 + cell * (i % count), -1 + cell * (i // count)
            gap = 0.045
            tile = box(left + gap, top + gap, left + cell - gap, top + cell - gap, radius=0.06)
            face.fill(tile, own if is_solved else rng.choice(palette))

    return decorate


def _crate(rng: Random) -> Callable[[Face], None]:
    wood = rng.choice([(182, 132, 80), (206, 164, 108), (140, 98, 62), (170, 150, 126)])
    planks, cross = rng.randint(3, 6), rng.random() < 0.6

    def decorate(face: Face) -> None:
        _base(face, wood)
        for i in range(planks):
            top = -1 + 2 * i / planks
            face.fill(box(-1, top, 1, top + 2 / planks - 0.03), tinted(wood, rng.uniform(0.85, 1.15)))
        if cross:
            face.stroke([(-0.9, -0.9), (0.9, 0.9)], tinted(wood, 0.75), 0.2)
        for bar in ((-1, -1, 1, -0.78), (-1, 0.78, 1, 1), (-1, -1, -0.78, 1), (0.78, -1, 1, 1)):
            face.fill(box(*bar), tinted(wood, 1.1))
            face.stroke([*box(*bar), bar[:2]], tinted(wood, 0.7), 0.02)

    return decorate


def _letters(rng: Random) -> Callable[[Face], None]:
    wood, letters = rng.choice([(226, 190, 136), (238, 216, 176)]), rng.sample(sorted(_LETTERS), 3)

    def decorate(face: Face) -> None:
        ink = lively(rng, saturation=(0.6, 1))
        _base(face, wood)
        face.stroke([*box(-0.84, -0.84, 0.84, 0.84), (-0.84, -0.84)], ink, 0.12)
        for line in _LETTERS[letters.pop()]:
            face.stroke(moved(line, (0, 0), scale=1.05), ink, 0.22)

    return decorate


def _parcel(rng: Random) -> Callable[[Face], None]:
    paper, ribbon, width = lively(rng), lively(rng), rng.uniform(0.12, 0.22)
    spots = [(rng.uniform(-0.9, 0.9), rng.uniform(-0.9, 0.9)) for _ in range(rng.choice([0, 9, 14]))]

    def decorate(face: Face) -> None:
        _base(face, paper)
        for x, y in spots:
            face.fill(oval((x, y), (0.08, 0.08)), tinted(paper, 1.4))
        face.fill(box(-width, -1, width, 1), ribbon)
        face.fill(box(-1, -width, 1, width), ribbon)

    return decorate
