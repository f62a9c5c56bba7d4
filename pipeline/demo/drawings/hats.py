"""Hats: top hat, bowler, fedora, cowboy hat, cap, sun hat, beanie and party hat."""

from math import cos, pi, sin
from random import Random

from penult.pipeline.demo.drawings.outlines import Outline, Point, box, mirrored, moved, oval, spline
from penult.pipeline.demo.drawings.sticker import Colour, Sticker, lively, tinted


def draw_hat(rng: Random) -> Sticker:
    """Draws one hat of a random kind."""
    sticker = Sticker()
    kind = rng.choice([_top_hat, _bowler, _fedora, _cowboy, _cap, _sun_hat, _beanie, _party_hat])
    kind(sticker, rng)
    return sticker


def _brim(radius: float, tilt: float, y: float, *, curl: float = 0.0) -> Outline:
    """Returns a brim seen from a little above, its sides lifted by ``curl``."""
    angles = [2 * pi * i / 72 for i in range(72)]
    return [(radius * cos(a), y + radius * tilt * sin(a) - curl * cos(a) ** 4) for a in angles]


def _crown(side: list[Point], tilt: float) -> Outline:
    """Returns a crown whose right ``side`` runs from the base upwards, on a base that bulges towards the viewer."""
    half, base = side[0]
    curve = spline(side)
    return [*oval((0, base), (half, half * tilt), start=180, stop=0), *curve, *mirrored(curve)]


def _band(half: float, y: float, height: float, tilt: float) -> Outline:
    lower = oval((0, y), (half, half * tilt), start=180, stop=0)
    upper = oval((0, y - height), (half * 0.985, half * tilt), start=0, stop=180)
    return [*lower, *upper]


def _top_hat(sticker: Sticker, rng: Random) -> None:
    colour = rng.choice([(38, 36, 44), (70, 66, 72), lively(rng, saturation=(0.2, 0.7))])
    tilt, height = rng.uniform(0.12, 0.3), rng.uniform(0.8, 1.25)
    base, half, flare = 0.5, rng.uniform(0.42, 0.52), rng.uniform(0.92, 1.2)
    sticker.shade(_brim(0.92, tilt, base, curl=rng.uniform(0, 0.12)), tinted(colour, 0.85), "cylinder")
    sticker.stroke(_brim(0.92, tilt, base)[2:34], tinted(colour, 1.25), 0.012)
    top = base - height
    sticker.shade(
        _crown([(half, base), (half * 0.94, base - height / 2), (half * flare, top)], tilt), colour, "cylinder"
    )
    sticker.shade(_band(half * 0.985, base - 0.01, rng.uniform(0.12, 0.24), tilt), lively(rng), "cylinder")
    sticker.shade(oval((0, top), (half * flare, half * flare * tilt)), tinted(colour, 1.12), "falling")


def _bowler(sticker: Sticker, rng: Random) -> None:
    colour = rng.choice([(44, 40, 42), (92, 68, 48), lively(rng, saturation=(0.2, 0.6))])
    tilt, half, height = rng.uniform(0.14, 0.28), rng.uniform(0.48, 0.58), rng.uniform(0.62, 0.82)
    brim = _brim(rng.uniform(0.74, 0.86), tilt, 0.35, curl=rng.uniform(0.06, 0.16))
    sticker.shade(brim, tinted(colour, 0.8), "cylinder")
    side = [
        (half, 0.35),
        (half * 1.02, 0.35 - height * 0.5),
        (half * 0.7, 0.35 - height * 0.86),
        (half * 0.3, 0.35 - height * 0.99),
    ]
    side.append((0, 0.35 - height))
    sticker.shade(_crown(side, tilt), colour, "cylinder")
    sticker.shade(_band(half, 0.34, rng.uniform(0.1, 0.17), tilt), tinted(colour, rng.uniform(0.4, 1.4)), "cylinder")


def _fedora(sticker: Sticker, rng: Random) -> None:
    colour = lively(rng, saturation=(0.15, 0.55))
    tilt, half, height = rng.uniform(0.2, 0.32), rng.uniform(0.46, 0.55), rng.uniform(0.62, 0.8)
    brim = _brim(rng.uniform(0.85, 0.96), tilt, 0.35, curl=rng.uniform(-0.14, 0.05))
    sticker.shade(brim, tinted(colour, 0.85), "cylinder")
    top = 0.35 - height
    side = [
        (half, 0.35),
        (half * 0.93, 0.1),
        (half * 0.8, top + 0.1),
        (half * 0.5, top),
        (0, top + rng.uniform(0.1, 0.2)),
    ]
    sticker.shade(_crown(side, tilt), colour, "cylinder")
    dent = spline([(-half * 0.45, top + 0.12), (-half * 0.2, top + 0.3), (-half * 0.26, top + 0.42)])
    sticker.stroke(dent, tinted(colour, 0.6), 0.03)
    sticker.stroke([(-x, y) for x, y in dent], tinted(colour, 0.6), 0.03)
    sticker.shade(_band(half * 0.99, 0.34, rng.uniform(0.12, 0.18), tilt), lively(rng), "cylinder")


def _cowboy(sticker: Sticker, rng: Random) -> None:
    colour = rng.choice([(150, 105, 62), (196, 164, 116), (84, 62, 50), lively(rng, saturation=(0.2, 0.7))])
    tilt, curl = rng.uniform(0.18, 0.26), rng.uniform(0.22, 0.4)
    sticker.shade(_brim(0.97, tilt, 0.4, curl=curl), tinted(colour, 0.85), "cylinder")
    half = rng.uniform(0.44, 0.52)
    side = [(half, 0.38), (half * 0.98, 0.0), (half * 0.86, -0.34), (half * 0.5, -0.4), (0, -0.26)]
    sticker.shade(_crown(side, tilt), colour, "cylinder")
    sticker.stroke(spline([(0, -0.24), (0.03, -0.1), (0, 0.05)]), tinted(colour, 0.65), 0.03)
    sticker.shade(_band(half, 0.37, 0.09, tilt), tinted(colour, 0.45), "cylinder")
    lip = [(x, y) for x, y in _brim(0.97, tilt, 0.4, curl=curl) if y > 0.4]
    sticker.stroke(sorted(lip), tinted(colour, 1.2), 0.014)


def _cap(sticker: Sticker, rng: Random) -> None:
    colour, other = lively(rng), lively(rng)
    visor_colour = rng.choice([colour, other, tinted(colour, 0.6)])
    front = rng.choice([-1, 1])
    dome = spline([(-0.62, 0.32), (-0.66, -0.1), (-0.42, -0.48), (0, -0.6), (0.42, -0.48), (0.64, -0.08), (0.62, 0.32)])
    dome += spline([(0.62, 0.32), (0, 0.44), (-0.62, 0.32)])
    length = rng.uniform(0.9, 1.0)
    visor = spline([(0.05, 0.36), (0.55, 0.14), (length, 0.3), (length, 0.44), (0.6, 0.5), (0.05, 0.42)])
    sticker.shade([(front * x, y) for x, y in dome], colour, "cylinder")
    for start in (-0.35, 0.0, 0.36):
        seam = spline([(start * 1.1, 0.4), (start * 1.15, -0.1), (0, -0.6)])
        sticker.stroke([(front * x, y) for x, y in seam], tinted(colour, 0.7), 0.012)
    sticker.shade([(front * x, y) for x, y in visor], visor_colour, "falling", degrees=90)
    sticker.stroke([(front * x, y) for x, y in visor[16:32]], tinted(visor_colour, 0.6), 0.02)
    sticker.fill(oval((0, -0.61), (0.07, 0.04)), visor_colour)
    if rng.random() < 0.6:
        badge = (
            oval((front * 0.22, -0.12), (0.16, 0.16))
            if rng.random() < 0.5
            else box(-0.3, -0.22, 0.16, 0.0, radius=0.04)
        )
        sticker.fill(badge, tinted(other, 1.4))


def _sun_hat(sticker: Sticker, rng: Random) -> None:
    colour = rng.choice([(226, 196, 132), (238, 222, 184), (206, 170, 110), lively(rng, saturation=(0.1, 0.4))])
    tilt = rng.uniform(0.3, 0.5)
    for step in range(6):
        ring = _brim(0.98 - step * 0.07, tilt, 0.3, curl=rng.uniform(-0.02, 0.02))
        sticker.shade(ring, tinted(colour, 0.86 + 0.05 * (step % 2)), "cylinder")
    half, height = rng.uniform(0.42, 0.5), rng.uniform(0.4, 0.55)
    side = [
        (half, 0.25),
        (half * 0.98, 0.25 - height * 0.5),
        (half * 0.65, 0.25 - height),
        (half * 0.3, 0.25 - height * 1.09),
    ]
    side.append((0, 0.25 - height * 1.1))
    sticker.shade(_crown(side, tilt), colour, "cylinder")
    for step in range(1, 5):
        y = 0.25 - height * step / 5
        sticker.stroke(
            oval((0, y), (half * (1 - 0.012 * step**2), half * tilt), start=10, stop=170), tinted(colour, 0.8), 0.01
        )
    ribbon = lively(rng)
    sticker.shade(_band(half, 0.25, rng.uniform(0.1, 0.18), tilt), ribbon, "cylinder")
    if rng.random() < 0.5:
        for turn in range(0, 360, 72):
            sticker.fill(moved(oval((0.09, 0), (0.08, 0.05)), (half * 0.7, 0.27), degrees=turn), tinted(ribbon, 1.5))


def _beanie(sticker: Sticker, rng: Random) -> None:
    colour, other = lively(rng), lively(rng)
    half, top = rng.uniform(0.6, 0.68), rng.uniform(-0.55, -0.42)
    side = [(half, 0.35), (half * 1.02, 0.0), (half * 0.72, top + 0.16), (half * 0.3, top + 0.01), (0, top)]
    sticker.shade(_crown(side, 0.1), colour, "cylinder")
    if rng.random() < 0.6:
        for y in (-0.02, -0.16):
            width = half * (1.0 if y > -0.1 else 0.94)
            sticker.shade(_band(width, y, 0.07, 0.1), other, "cylinder")
    cuff = [*_band(half * 1.07, 0.5, 0.3, 0.1)]
    sticker.shade(cuff, rng.choice([colour, other]), "cylinder")
    for i in range(-9, 10):
        x = half * 1.05 * sin(i * pi / 20)
        sticker.stroke([(x, 0.26), (x, 0.52)], tinted(colour, 0.6), 0.012)
    if rng.random() < 0.7:
        fluff = tinted(other, 1.3)
        for _ in range(60):
            a, r = rng.uniform(0, 2 * pi), 0.17 * rng.random() ** 0.5
            spot = oval((r * cos(a), top - 0.08 + r * sin(a)), (0.05, 0.05))
            sticker.fill(spot, tinted(fluff, rng.uniform(0.75, 1.2)))


def _party_hat(sticker: Sticker, rng: Random) -> None:
    colour, other = lively(rng, saturation=(0.5, 1)), lively(rng, saturation=(0.5, 1))
    half, top, tilt = rng.uniform(0.42, 0.56), rng.uniform(-0.85, -0.6), rng.uniform(0.12, 0.24)
    if rng.random() < 0.4:
        sticker.shade(_brim(rng.uniform(0.75, 0.95), tilt, 0.55), tinted(colour, 0.8), "cylinder")
    bend = rng.uniform(-0.12, 0.12)
    cone = [*oval((0, 0.55), (half, half * tilt), start=180, stop=0), (bend, top)]
    sticker.shade(cone, colour, "cylinder")
    for i in range(1, 6):
        t = i / 6
        x, y, width = bend * t, 0.55 + (top - 0.55) * t, half * (1 - t)
        if i % 2:
            stripe = oval((x, y), (width, width * tilt), start=180, stop=0)
            sticker.shade(
                [*stripe, *oval((x, y - 0.08), (width * 0.9, width * tilt), start=0, stop=180)], other, "cylinder"
            )
        else:
            for spot in (-0.5, 0.1, 0.6):
                sticker.fill(oval((x + width * spot, y + width * tilt * 0.7), (0.035, 0.04)), _pale(other))
    if rng.random() < 0.6:
        sticker.fill(oval((bend, top), (0.1, 0.1)), _pale(other))


def _pale(colour: Colour) -> Colour:
    return tinted(colour, 1.5)
