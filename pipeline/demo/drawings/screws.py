"""Screws: wood screws, machine screws, hex bolts, eye screws, and a head seen from above."""

from math import cos, pi, sin
from random import Random

from penult.pipeline.demo.drawings.outlines import Outline, Point, box, moved, oval
from penult.pipeline.demo.drawings.sticker import Colour, Sticker, tinted

_METALS: tuple[Colour, ...] = (
    (170, 174, 182),
    (140, 146, 156),
    (206, 172, 92),
    (186, 126, 84),
    (66, 68, 76),
    (214, 216, 220),
)


def draw_screw(rng: Random) -> Sticker:
    """Draws one screw of a random kind in a random metal."""
    sticker = Sticker()
    rng.choice([_wood_screw, _wood_screw, _machine_screw, _bolt, _eye_screw, _from_above])(
        sticker, rng, rng.choice(_METALS)
    )
    return sticker


def _thread(
    sticker: Sticker, span: tuple[float, float], widths: tuple[float, float], metal: Colour, pitch: float
) -> None:
    """Draws a threaded shaft from ``span[0]`` down to ``span[1]``, its half-width running between ``widths``."""
    (top, bottom), (wide, narrow) = span, widths

    def half(y: float) -> float:
        return wide + (narrow - wide) * max(0.0, min(1.0, (y - top) / (bottom - top)))

    core = [
        (-half(top) * 0.72, top),
        (half(top) * 0.72, top),
        (half(bottom) * 0.72, bottom),
        (-half(bottom) * 0.72, bottom),
    ]
    sticker.shade(core, tinted(metal, 0.8), "cylinder")
    y = top
    while y + pitch < bottom:
        left, right = half(y), half(y + pitch / 2)
        ridge = [
            (-left, y + pitch * 0.1),
            (right, y + pitch * 0.55),
            (right, y + pitch * 0.75),
            (-left, y + pitch * 0.38),
        ]
        sticker.shade(ridge, tinted(metal, 1.15), "cylinder")
        sticker.stroke([(-left * 0.9, y + pitch * 0.42), (right * 0.9, y + pitch * 0.82)], tinted(metal, 0.4), 0.016)
        y += pitch


def _drive(kind: str, centre: Point, radius: float, tilt: float) -> list[Outline]:
    """Returns the recess of a head: slot, cross, hex socket or star."""
    if kind == "slot":
        shapes = [box(-1.0, -0.13, 1.0, 0.13)]
    elif kind == "cross":
        shapes = [box(-0.66, -0.15, 0.66, 0.15), box(-0.15, -0.66, 0.15, 0.66)]
    elif kind == "hex":
        shapes = [[(0.55 * cos(i * pi / 3), 0.55 * sin(i * pi / 3)) for i in range(6)]]
    else:
        shapes = [[((0.62, 0.4)[i % 2] * cos(i * pi / 6), (0.62, 0.4)[i % 2] * sin(i * pi / 6)) for i in range(12)]]
    return [[(centre[0] + x * radius, centre[1] + y * radius * tilt) for x, y in shape] for shape in shapes]


def _head(sticker: Sticker, rng: Random, metal: Colour, y: float, *, shank: float) -> None:
    """Draws a countersunk, pan or cheese head whose underside lies at ``y``."""
    wide, tilt = rng.uniform(0.26, 0.38), rng.uniform(0.14, 0.3)
    kind, height = rng.choice(["countersunk", "pan", "cheese"]), rng.uniform(0.12, 0.2)
    top = y - height
    if kind == "countersunk":
        sticker.shade([(-wide, top), (wide, top), (shank, y + 0.04), (-shank, y + 0.04)], metal, "cylinder")
    elif kind == "pan":
        under = oval((0, y), (wide, wide * tilt * 0.6), start=0, stop=180)
        sticker.shade([*under, *oval((0, y), (wide, height * 1.5), start=180, stop=360)], metal, "cylinder")
        top += 0.02
        wide *= 0.8
    else:
        under = oval((0, y), (wide, wide * tilt), start=0, stop=180)
        sticker.shade([*under, (-wide, top), (wide, top)], metal, "cylinder")
    sticker.shade(oval((0, top), (wide, wide * tilt)), tinted(metal, 1.25), "falling")
    for recess in _drive(rng.choice(["slot", "cross", "cross", "hex", "star"]), (0, top), wide, tilt):
        sticker.fill(recess, tinted(metal, 0.35))


def _wood_screw(sticker: Sticker, rng: Random, metal: Colour) -> None:
    half, pitch = rng.uniform(0.1, 0.17), rng.uniform(0.09, 0.14)
    bare = rng.uniform(-0.45, 0.1)
    sticker.shade(box(-half * 0.75, -0.7, half * 0.75, bare), metal, "cylinder")
    sticker.shade([(-half * 0.5, 0.7), (half * 0.5, 0.7), (0, 0.98)], tinted(metal, 0.9), "cylinder")
    _thread(sticker, (bare, 0.62), (half, half * 0.92), metal, pitch)
    _thread(sticker, (0.6, 0.95), (half * 0.9, 0.02), metal, pitch * 0.8)
    _head(sticker, rng, metal, -0.68, shank=half)


def _machine_screw(sticker: Sticker, rng: Random, metal: Colour) -> None:
    half, end = rng.uniform(0.14, 0.22), rng.uniform(0.35, 0.85)
    sticker.shade(box(-half * 0.72, end - 0.1, half * 0.72, end, radius=0.03), metal, "cylinder")
    _thread(sticker, (-0.5, end), (half, half), metal, rng.uniform(0.06, 0.09))
    _head(sticker, rng, metal, -0.48, shank=half)


def _hexagon(half: float, y: float, height: float) -> list[tuple[Outline, float]]:
    """Returns the three visible sides of a six-sided head or nut, with the light on each."""
    xs = (-half, -half * 0.48, half * 0.48, half)
    return [(box(a, y, b, y + height), light) for a, b, light in zip(xs, xs[1:], (0.75, 1.2, 0.6), strict=False)]


def _bolt(sticker: Sticker, rng: Random, metal: Colour) -> None:
    half, end, bare = rng.uniform(0.15, 0.21), rng.uniform(0.6, 0.92), rng.uniform(-0.4, 0.05)
    sticker.shade(box(-half * 0.9, -0.6, half * 0.9, bare), metal, "cylinder")
    _thread(sticker, (bare, end), (half, half * 0.97), metal, rng.uniform(0.07, 0.1))
    wide = half * rng.uniform(1.8, 2.2)
    for side, light in _hexagon(wide, -0.82, 0.24):
        sticker.shade(side, tinted(metal, light), "falling", degrees=90)
    sticker.shade(oval((0, -0.82), (wide * 0.98, 0.07)), tinted(metal, 1.3), "falling")
    if rng.random() < 0.45:
        y = rng.uniform(bare, end - 0.3)
        for side, light in _hexagon(wide * 0.95, y, 0.22):
            sticker.shade(side, tinted(metal, light * 0.95), "falling", degrees=90)


def _eye_screw(sticker: Sticker, rng: Random, metal: Colour) -> None:
    half, radius = rng.uniform(0.09, 0.14), rng.uniform(0.24, 0.32)
    ring = oval((0, -0.58), (radius, radius), start=100, stop=rng.choice([440, 360]))
    sticker.stroke(ring, tinted(metal, 0.6), 0.16)
    sticker.stroke(moved(ring, (-0.012, -0.012)), tinted(metal, 1.2), 0.08)
    sticker.shade(box(-half * 0.8, -0.34, half * 0.8, 0.1), metal, "cylinder")
    _thread(sticker, (0.05, 0.95), (half, 0.025), metal, rng.uniform(0.08, 0.12))


def _from_above(sticker: Sticker, rng: Random, metal: Colour) -> None:
    radius = rng.uniform(0.5, 0.7)
    if rng.random() < 0.5:
        sticker.shade(oval((0, 0), (radius * 1.3, radius * 1.3)), tinted(metal, 0.8), "falling", degrees=40)
    sticker.shade(oval((0, 0), (radius, radius)), tinted(metal, 0.75), "falling", degrees=50)
    sticker.shade(oval((0, 0), (radius * 0.92, radius * 0.92)), metal, "rising", degrees=50)
    recesses = _drive(rng.choice(["slot", "cross", "hex", "star"]), (0, 0), radius, 1.0)
    for recess in recesses:
        sticker.fill(moved(recess, (0.02, 0.025)), tinted(metal, 1.4))
        sticker.fill(recess, tinted(metal, 0.3))
