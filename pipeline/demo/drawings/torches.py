"""Torches: hand torch, pen light, hand lamp, and burning torches."""

from random import Random

from penult.pipeline.demo.drawings.outlines import Outline, box, moved, oval, spline
from penult.pipeline.demo.drawings.sticker import Colour, Sticker, lively, tinted

_FLAME_SIDES = (
    [(0.0, 0.5), (-0.42, 0.42), (-0.5, 0.05), (-0.26, -0.3), (-0.2, -0.6)],
    [(0.02, -1.0), (0.14, -0.5), (0.36, -0.35), (0.5, 0.1), (0.4, 0.42), (0.0, 0.5)],
)
_FLAME = spline([point for side in _FLAME_SIDES for point in side])


def draw_torch(rng: Random) -> Sticker:
    """Draws one torch of a random kind, lit or not."""
    sticker = Sticker()
    rng.choice([_hand_torch, _hand_torch, _pen_light, _hand_lamp, _burning_stick, _burning_cone])(sticker, rng)
    return sticker


def _beam(sticker: Sticker, start: tuple[float, float], half: float, rng: Random) -> None:
    """Lays a cone of light from ``start`` to the right, weaker with distance."""
    colour = rng.choice([(255, 244, 190), (255, 255, 240), (220, 238, 255)])
    x, y = start
    width = half + rng.uniform(0.25, 0.55) * (1.0 - x)
    sticker.beam([(x, y - half), (1.0, y - width), (1.0, y + width), (x, y + half)], colour, rng.uniform(0.45, 0.75))


def _barrel(left: float, right: float, half: float) -> Outline:
    cap = half * 0.35
    return [*oval((left, 0), (cap, half), start=90, stop=270), *oval((right, 0), (cap, half), start=270, stop=450)]


def _hand_torch(sticker: Sticker, rng: Random) -> None:
    colour = rng.choice([(48, 48, 54), (150, 154, 160), lively(rng), lively(rng)])
    half, wide, neck = rng.uniform(0.13, 0.19), rng.uniform(0.24, 0.34), rng.uniform(0.1, 0.3)
    is_lit = rng.random() < 0.6
    head = neck + rng.uniform(0.28, 0.4)
    if is_lit:
        _beam(sticker, (head, 0), wide * 0.9, rng)
    sticker.shade(_barrel(-0.92, neck, half), colour, "cylinder", degrees=90)
    for i in range(rng.randint(5, 9)):
        x = -0.75 + i * 0.075
        sticker.stroke(oval((x, 0), (half * 0.35, half), start=-88, stop=88), tinted(colour, 0.55), 0.022)
    flare = [
        (neck - 0.06, -half),
        (neck + 0.1, -wide),
        (head, -wide),
        (head, wide),
        (neck + 0.1, wide),
        (neck - 0.06, half),
    ]
    sticker.shade(flare, tinted(colour, rng.uniform(0.7, 1.15)), "cylinder", degrees=90)
    sticker.shade(box(neck - 0.12, -half * 1.08, neck - 0.05, half * 1.08), tinted(colour, 1.3), "cylinder", degrees=90)
    _lens(sticker, (head, wide), colour, is_lit=is_lit)
    sticker.fill(
        box(neck - 0.36, -half * 0.75, neck - 0.2, -half * 0.3, radius=0.03), rng.choice([(200, 40, 40), (20, 20, 22)])
    )


def _lens(sticker: Sticker, at: tuple[float, float], colour: Colour, *, is_lit: bool) -> None:
    x, half = at
    sticker.shade(oval((x, 0), (half * 0.36, half)), tinted(colour, 0.8), "cylinder", degrees=90)
    glass: Colour = (255, 250, 214) if is_lit else (150, 166, 178)
    sticker.fill(oval((x, 0), (half * 0.28, half * 0.84)), glass)
    sticker.fill(oval((x + half * 0.02, 0), (half * 0.1, half * 0.32)), (255, 255, 255) if is_lit else (96, 108, 118))


def _pen_light(sticker: Sticker, rng: Random) -> None:
    colour = rng.choice([(54, 54, 60), (176, 178, 184), lively(rng)])
    half, is_lit = rng.uniform(0.075, 0.11), rng.random() < 0.75
    if is_lit:
        _beam(sticker, (0.5, 0), half, rng)
    sticker.shade(_barrel(-0.94, 0.5, half), colour, "cylinder", degrees=90)
    sticker.shade(_barrel(0.28, 0.5, half * 1.25), tinted(colour, 1.25), "cylinder", degrees=90)
    sticker.fill(box(-0.8, -half * 1.5, -0.2, -half * 1.1, radius=0.012), tinted(colour, 1.45))
    sticker.fill(box(-1.0, -half * 0.5, -0.92, half * 0.5, radius=0.02), tinted(colour, 0.6))
    _lens(sticker, (0.5, half * 1.25), colour, is_lit=is_lit)


def _hand_lamp(sticker: Sticker, rng: Random) -> None:
    colour, is_lit = lively(rng, saturation=(0.5, 1)), rng.random() < 0.6
    if is_lit:
        _beam(sticker, (0.42, -0.05), 0.42, rng)
    sticker.stroke(spline([(-0.6, -0.3), (-0.5, -0.72), (0.1, -0.72), (0.2, -0.3)]), tinted(colour, 0.55), 0.1)
    sticker.shade(box(-0.78, -0.36, 0.24, 0.5, radius=0.1), colour, "falling", degrees=90)
    sticker.fill(box(-0.66, 0.1, 0.1, 0.36, radius=0.03), tinted(colour, 0.6))
    sticker.shade(
        [(0.16, -0.34), (0.42, -0.5), (0.42, 0.42), (0.16, 0.3)], tinted(colour, 0.85), "cylinder", degrees=90
    )
    sticker.shade(oval((0.42, -0.04), (0.17, 0.46)), (60, 60, 64), "cylinder", degrees=90)
    sticker.fill(oval((0.43, -0.04), (0.13, 0.39)), (255, 248, 208) if is_lit else (170, 184, 194))
    sticker.fill(oval((0.44, -0.04), (0.045, 0.13)), (255, 255, 255) if is_lit else (110, 122, 132))


def _fire(sticker: Sticker, centre: tuple[float, float], size: float, rng: Random) -> None:
    lean = rng.uniform(-14, 14)
    sticker.glow((centre[0], centre[1] - size * 0.2), size * 1.25, (255, 190, 80))
    for colour, scale, drop in (
        ((214, 62, 20), 1.0, 0.0),
        ((246, 128, 26), 0.78, 0.08),
        ((255, 200, 60), 0.54, 0.15),
        ((255, 246, 200), 0.28, 0.2),
    ):
        flame = moved(
            _FLAME, (centre[0], centre[1] + drop * size), scale=size * scale, degrees=lean * rng.uniform(0.5, 1.2)
        )
        sticker.fill(flame, colour)


def _burning_stick(sticker: Sticker, rng: Random) -> None:
    wood, cloth = (
        rng.choice([(122, 84, 52), (92, 62, 40), (150, 112, 74)]),
        rng.choice([(214, 200, 170), (120, 104, 88)]),
    )
    top = rng.uniform(-0.25, -0.05)
    sticker.shade([(-0.09, top), (0.09, top), (0.06, 0.95), (-0.06, 0.95)], wood, "cylinder")
    _fire(sticker, (0, top - 0.25), rng.uniform(0.46, 0.62), rng)
    sticker.shade(box(-0.15, top - 0.12, 0.15, top + 0.24, radius=0.06), cloth, "cylinder")
    for i in range(4):
        y = top - 0.06 + i * 0.08
        sticker.stroke([(-0.15, y + 0.04), (0.15, y - 0.02)], tinted(cloth, 0.65), 0.018)


def _burning_cone(sticker: Sticker, rng: Random) -> None:
    metal = rng.choice([(206, 170, 76), (190, 194, 200), (150, 96, 60), lively(rng)])
    top = rng.uniform(-0.15, 0.0)
    _fire(sticker, (0, top - 0.2), rng.uniform(0.46, 0.6), rng)
    wide = rng.uniform(0.2, 0.3)
    sticker.shade([(-wide, top), (wide, top), (0.07, 0.95), (-0.07, 0.95)], metal, "cylinder")
    sticker.shade(oval((0, top), (wide, 0.06)), tinted(metal, 0.6), "falling")
    for y in (top + 0.16, top + 0.3):
        half = wide - (wide - 0.07) * (y - top) / (0.95 - top)
        sticker.shade(box(-half * 1.06, y, half * 1.06, y + 0.05), tinted(metal, 1.3), "cylinder")
